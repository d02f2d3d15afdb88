package pages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"hb/source/datadir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// maxTried is how many tablespaces are looked at for a page that shows that a key is the right
// one. Most need one; those that the server has just begun to encrypt have none.
const maxTried = 32

// ProveKeys makes sure that the keys of MariaDB that hb has are those that the files are
// encrypted with: a backup of MariaDB decrypts no page, and would take other keys for the
// server's. It returns the keys that tablespaces need and that hb does not have. ask: a
// program that prints keys is asked for those. That a key is wrong is a *keyring.WrongKeyError.
//
// A single page that does not decrypt proves nothing: IMPORT TABLESPACE may be writing it.
func (v *Inventory) ProveKeys(ctx context.Context, files []*File, ask bool) (lacking []keyring.MariaDBKey, err error) {
	proven, tried := make(map[uint32]bool), make(map[uint32]int)
	wrong := make(map[uint32]error)
	for _, t := range files {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		id := t.Space.Encryption.KeyID
		if v.Keys.None() || !t.Space.Encryption.MayEncrypt() || proven[id] || tried[id] == maxTried {
			continue
		}
		tried[id]++
		page, no, err := v.sealedPage(t)
		if err != nil {
			return nil, err
		}
		if page == nil {
			continue
		}
		name := keyring.MariaDBKey{ID: id, Version: t.Space.KeyVersion(page, no)}
		if !v.Keys.Has(name) && !(ask && v.Keys.Asks()) {
			if !slices.Contains(lacking, name) {
				lacking = append(lacking, name)
			}
			continue
		}
		err = v.decrypts(t, page, no)
		if proven[id] = err == nil; proven[id] {
			delete(wrong, id)
		} else if _, is := errors.AsType[*keyring.WrongKeyError](err); !is {
			return nil, err
		} else {
			wrong[id] = fmt.Errorf("%s, with %s: %w", t.Path, strings.Join(v.Keys.Sources(), ", "), err)
		}
	}
	for _, err := range wrong {
		return nil, err
	}
	return lacking, nil
}

// decrypts decrypts a page.
func (v *Inventory) decrypts(t *File, page []byte, no innodb.PageNo) (err error) {
	space := t.Space.Space
	if space.Cipher, err = tde.Open(&space, nil, v.Keys); err == nil {
		_, err = space.Verify(page, no)
	}
	return err
}

// sealedPage returns an encrypted page of the first ones of a tablespace, with its number; nil:
// the tablespace has no such page. It passes over those that are torn, and those that are
// compressed, too: hb cannot decompress all of them.
func (v *Inventory) sealedPage(t *File) (_ []byte, no innodb.PageNo, err error) {
	f, err := v.disk.OpenRegular(t.Path, t.Linked)
	if err != nil {
		return nil, 0, datadir.IgnoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	space, buf := t.Space.Space, make([]byte, SegmentSize)
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return nil, 0, err
	}
	for at := space.Physical; at+space.Physical <= n; at += space.Physical {
		page, no := buf[at:at+space.Physical], innodb.PageNo(at/space.Physical)
		if !space.Sealed(page, no) || space.Compressed(page) {
			continue
		}
		if _, err := space.Verify(page, no); err == nil {
			return page, no, nil
		}
	}
	return nil, 0, nil
}
