package sink

import (
	"context"
	"errors"

	"hb/sink/apply"
	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// CheckInPlace finds out before an archive is extracted, with Options.InPlace, that a
// name which it will need for an old file is taken: a *backupdir.NotBackupError. It reads
// the list of tablespaces by the archive's index; from a pipe, from an archive without an
// index, and if a passphrase must be asked for, it learns nothing, and package apply
// finds out once the archive is extracted. It says nothing of an archive that is damaged:
// the extraction does.
func CheckInPlace(ctx context.Context, f *stream.ReadFlags) error {
	if f.Stdin() {
		return nil
	}
	silent := func(string) (string, error) { return "", errors.New("nobody is asked yet") }
	in, err := f.OpenParts(ctx, nil, silent)
	if err != nil {
		return nil
	}
	if in.Parts != nil {
		if external := readExternal(in.Parts); external != nil {
			err = apply.CheckInPlace(external, in.Parts.Manifest)
		}
	}
	return errors.Join(err, in.Close())
}

// readExternal reads the list of tablespaces of an archive; nil: there is none, or it
// cannot be read.
func readExternal(parts *stream.Parts) *metadata.External {
	var text []byte
	for c := range parts.Chunks(parts.Path) {
		if c.Type != xbstream.Payload || parts.Path(c.File) != metadata.ExternalName {
			continue
		}
		if c.Offset != int64(len(text)) || c.Offset+c.Len > metadata.MaxExternal {
			return nil
		}
		data := make([]byte, c.Len)
		if _, err := parts.ReadPayload(c, data); err != nil {
			return nil
		}
		text = append(text, data...)
	}
	external, err := metadata.UnmarshalExternal(text)
	if len(text) == 0 || err != nil {
		return nil
	}
	return external
}
