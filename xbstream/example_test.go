package xbstream_test

import (
	"bytes"
	"fmt"
	"io"
	"log"

	"hb/xbstream"
)

// An archive of two files whose chunks alternate, as a backup writes pages and redo.
func ExampleWriter() {
	var archive bytes.Buffer
	w := xbstream.NewWriter(&archive)
	pages, err := w.Create("db/t.ibd")
	if err != nil {
		log.Fatal(err)
	}
	redo, err := w.Create("ib_logfile0")
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range []*xbstream.File{pages, redo, pages} {
		if _, err := f.Write([]byte("16 KiB, in a backup")); err != nil {
			log.Fatal(err)
		}
	}
	for _, end := range []io.Closer{redo, pages, w} {
		if err := end.Close(); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(w.Written() == int64(archive.Len()))
	// Output: true
}

// The reader returns verified chunks until io.EOF. It fails if a file does not end.
func ExampleReader() {
	var archive bytes.Buffer
	w := xbstream.NewWriter(&archive)
	f, err := w.Create("db/t.ibd")
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(f, "some pages"); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}

	r := xbstream.NewReader(&archive, xbstream.ReaderOptions{})
	for {
		c, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		switch c.Type {
		case xbstream.Payload:
			fmt.Printf("%s: %d bytes at %d\n", c.Path, len(c.Data), c.Offset)
		case xbstream.End:
			fmt.Println(c.Path, "ends")
		}
	}
	// Output:
	// db/t.ibd: 10 bytes at 0
	// db/t.ibd ends
}
