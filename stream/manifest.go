package stream

import (
	"fmt"
	"io"

	"hb/stream/ranges"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// Header returns the bytes of hb-archive.json.
func (p *Parts) Header() ([]byte, error) {
	if len(p.Files) == 0 || p.Files[0].Path != metadata.ArchiveName || p.Files[0].Size > metadata.MaxArchiveSize {
		return nil, wrongIndex(fmt.Errorf("%s is not the first file", metadata.ArchiveName), p.At)
	}
	var text []byte
	err := eachPayload(p.Open(map[int]bool{0: true}), metadata.ArchiveName, func(data []byte) error {
		text = append(text, data...)
		return nil
	})
	return text, err
}

// WriteManifest writes the bytes of hb-manifest.json to w.
func (p *Parts) WriteManifest(w io.Writer) error {
	p.at.Plan([]ranges.Span{{Off: p.At, Len: p.Size - p.At}})
	return eachPayload(io.NewSectionReader(p.at, p.At, p.Size-p.At), metadata.ManifestName, func(data []byte) error {
		_, err := w.Write(data)
		return err
	})
}

// eachPayload calls f with the data of each payload chunk of a file.
func eachPayload(r io.Reader, path string, f func(data []byte) error) error {
	rd := xbstream.NewReader(r, xbstream.ReaderOptions{})
	for {
		ch, err := rd.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil && ch.Path == path && ch.Type == xbstream.Payload {
			err = f(ch.Data)
		}
		if err != nil {
			return err
		}
	}
}
