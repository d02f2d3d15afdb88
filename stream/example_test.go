package stream_test

import (
	"bytes"
	"fmt"
	"io"
	"log"

	"filippo.io/age"

	"hb/stream"
)

// An archive is compressed and then encrypted on its way out. Open detects both.
func ExampleCreate() {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	var out bytes.Buffer
	w, err := stream.Create(&out, stream.WriteOptions{Compress: &stream.Compression{}, Recipients: []age.Recipient{key.Recipient()}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(w, "XBSTCK01..."); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil { // without it the archive is truncated
		log.Fatal(err)
	}

	r, err := stream.Open(&out, stream.Options{Identities: []age.Identity{key}})
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q after %v\n", text, r.Stages)
	// Output: "XBSTCK01..." after [age zstd]
}
