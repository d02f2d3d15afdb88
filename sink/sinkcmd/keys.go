package sinkcmd

import (
	"bytes"
	"context"
	"errors"

	"hb/sink/catalog"
	"hb/stream"
	"hb/stream/program"
	"hb/xbstream/keyring"
)

// sealedKeys adds to keys those that the archives have themselves. They come after the
// pages that need them, so hb looks for them by the index; from an archive without one, or
// that cannot be read anywhere, it takes none. unread is why it could not read them where
// it should have: who reads all of the archive comes upon the damage, and says more of it.
func sealedKeys(ctx context.Context, p *program.Program, f *stream.ReadFlags, increments []string, keys *keyring.Keys) (_ *keyring.Keys, unread, err error) {
	ids, err := stream.ReadIdentities(f.Identity, p.Ask)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range append([]string{f.Archive}, increments...) {
		of := f.Of(name)
		if of.Stdin() {
			continue
		}
		content, err := sealedMember(ctx, p, of)
		if err != nil {
			unread = errors.Join(unread, err)
			continue
		}
		if content == nil {
			continue
		}
		if keys == nil {
			keys = new(keyring.Keys)
		}
		if err := keys.Unseal(bytes.NewReader(content), ids); err != nil {
			return nil, nil, err
		}
	}
	return keys, unread, nil
}

// sealedMember reads keyring.SealedName of an archive; nil: there is none, or no index.
func sealedMember(ctx context.Context, p *program.Program, f *stream.ReadFlags) (content []byte, err error) {
	in, err := openParts(ctx, p, f, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if in.Parts == nil {
		return nil, nil
	}
	members, err := catalog.ReadMembers(in.Parts, func(path string) bool { return path == keyring.SealedName }, keyring.MaxSealed)
	return members[keyring.SealedName], err
}
