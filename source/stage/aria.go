package stage

import (
	"context"
	"strings"

	"hb/source/datadir"
	"hb/stream/disk"
	"hb/xbstream/aria"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// verifier checks the blocks of a crash-safe Aria table; the zero value checks
// nothing.
type verifier struct {
	block  int // bytes; 0: nothing to check
	check1 func(block []byte, no int64) error
}

// verifierFor returns the verifier for the file at path.
func (s *Stage) verifierFor(f disk.File, path string) (verifier, error) {
	base, isData := strings.CutSuffix(path, ".MAD")
	if !isData && !strings.HasSuffix(path, ".MAI") {
		return verifier{}, nil
	}
	mai := f
	if isData {
		var err error
		if mai, err = s.disk.OpenRegular(base+".MAI", true); err != nil {
			return verifier{}, err
		}
		defer mai.Close()
	}
	t, err := aria.ReadTable(mai)
	s.aria.CompareAndSwap(false, t.Encrypted)
	if err != nil || !t.CrashSafe {
		return verifier{}, err
	}
	if t.Encrypted {
		t.Cipher = tde.OpenAria(t.Message, s.Keys)
	}
	if isData {
		return verifier{t.BlockSize, t.VerifyData}, nil
	}
	return verifier{t.BlockSize, t.VerifyIndex}, nil
}

// EncryptedAria reports whether an Aria table that was staged is encrypted.
func (s *Stage) EncryptedAria() bool { return s.aria.Load() }

// check verifies the whole blocks of data, which was read at off. Under the
// lock a block that fails is read again: a crash-safe table may still be
// written, by statements that will not be in the backup.
func (v verifier) check(ctx context.Context, f disk.File, data []byte, off int64, w when) error {
	if v.block == 0 {
		return nil
	}
	for at := 0; at+v.block <= len(data); at += v.block {
		block, pos := data[at:at+v.block], off+int64(at)
		err := v.check1(block, pos/int64(v.block))
		if err != nil && w == locked && !keyring.IsKeyError(err) {
			err = datadir.Retry(ctx, func() error {
				if _, err := f.ReadAt(block, pos); err != nil {
					return err
				}
				return v.check1(block, pos/int64(v.block))
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
