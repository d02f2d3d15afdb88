package catalog

import (
	"context"
	"errors"
	"io"

	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// errNoManifest says that an archive has none.
var errNoManifest = errors.New("hb did not make this archive: it has no manifest")

// WriteManifest writes hb-archive.json and hb-manifest.json of an archive to w, one after
// the other. The archive is complete only if it returns no error: as List and ListIndex
// know it.
func WriteManifest(ctx context.Context, in *stream.Input, w io.Writer) (*Summary, error) {
	if in.Parts == nil {
		return streamManifest(ctx, in, w)
	}
	header, err := in.Parts.Header()
	if err == nil {
		_, err = w.Write(header)
	}
	if err == nil {
		err = in.Parts.WriteManifest(w)
	}
	if err != nil {
		return nil, err
	}
	return ListIndex(in.Parts, func(Entry) error { return nil })
}

// streamManifest reads an archive to its end.
func streamManifest(ctx context.Context, r io.Reader, w io.Writer) (*Summary, error) {
	rd := xbstream.NewReader(r, xbstream.ReaderOptions{})
	cat := New()
	err := follow(ctx, rd, cat, func(ch *xbstream.Chunk, _ *Entry) error {
		switch {
		case !cat.Own:
			return errNoManifest
		case ch.Type == xbstream.Payload && (ch.Path == metadata.ArchiveName || ch.Path == metadata.ManifestName):
			_, err := w.Write(ch.Data)
			return err
		}
		return nil
	})
	return cat.Summary(rd), cat.Explain(err)
}
