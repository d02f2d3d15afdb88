package apply

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"hb/sink/backupdir"
	"hb/stream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// checkNewMaster refuses NewMasterKey where it means nothing, and finds the key of an
// interrupted run.
func (a *applier) checkNewMaster(st backupdir.State) error {
	begun := st.Stage != ""
	switch {
	case !a.NewMasterKey && st.NewMaster != "":
		return stream.AsUsage(errors.New("an earlier hb apply --new-master-key did not finish: give that option again, and --write-keyring with the same file"))
	case !a.NewMasterKey:
		return nil
	case a.backup.Flavor != metadata.FlavorMySQL:
		return stream.AsUsage(errors.New("--new-master-key is for MySQL: MariaDB has no master keys"))
	case a.ByServer:
		return stream.AsUsage(errors.New("--new-master-key is not for --by-server: the server needs the old keys to recover the directory"))
	case a.WriteKeyring == "":
		return stream.AsUsage(errors.New("--new-master-key needs --write-keyring FILE, for the new key"))
	case begun && st.NewMaster == "":
		return stream.AsUsage(errors.New("an earlier hb apply without --new-master-key did not finish: go on without"))
	case !begun:
		return nil
	}
	if a.Keys == nil {
		a.Keys = new(keyring.Keys)
	}
	if err := a.Keys.ReadMySQLKeyring(a.WriteKeyring); err != nil {
		return fmt.Errorf("an earlier hb apply --new-master-key did not finish, and its --write-keyring is needed: %w", err)
	}
	if _, err := a.Keys.Master(st.NewMaster); err != nil {
		return err
	}
	a.master = st.NewMaster
	return nil
}

// checkRewrapped refuses NewMasterKey for a directory that was applied before, unless an
// earlier run has given it the key that WriteKeyring has.
func (a *applier) checkRewrapped() error {
	if !a.NewMasterKey {
		return nil
	}
	written := new(keyring.Keys)
	if err := written.ReadMySQLKeyring(a.WriteKeyring); err == nil {
		a.master, _, _ = written.NewestMaster()
	}
	return a.eachEncrypted(func(file string, space *innodb.Space) error {
		info, err := tde.ParseMySQLInfo(space.MySQLInfo[:])
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if a.master == "" || info.Master() != a.master {
			return &backupdir.NotBackupError{Dir: a.dir, What: "it was applied before, and --new-master-key is for applying it: have a server that runs on it make a new key (ALTER INSTANCE ROTATE INNODB MASTER KEY)"}
		}
		return nil
	})
}

// makeMaster makes the new master key and writes it to WriteKeyring, together with the
// old ones, before anything needs it: so an interrupted run can go on.
func (a *applier) makeMaster() error {
	if !a.NewMasterKey || a.master != "" {
		return nil
	}
	if a.Keys.None() {
		return stream.AsUsage(errors.New("--new-master-key needs the old keys: give them with --keyring, or the identity that opens those of the backup with -i"))
	}
	name, err := a.Keys.NewMaster()
	if err != nil {
		return err
	}
	content, err := a.keyringFile("")
	if err == nil {
		err = newKeyring(a.WriteKeyring, content)
	}
	if err == nil {
		a.master = name
	}
	return err
}

// rewrap encrypts the keys of all tablespaces by the new master key. It changes page 0 of
// each, and can be repeated: what an interrupted run may have torn there is exactly what
// is written again, and checkTorn makes sure that there is nothing else.
func (a *applier) rewrap() error {
	if a.master == "" {
		return nil
	}
	if err := a.eachEncrypted(a.rewrapFile); err != nil {
		return err
	}
	return a.replaceKeyring()
}

// replaceKeyring takes the old keys out of WriteKeyring. That stays whole if this fails.
func (a *applier) replaceKeyring() error {
	content, err := a.keyringFile(a.master)
	if err != nil {
		return err
	}
	temporary := a.WriteKeyring + backupdir.ExtTemporary
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing a keyring: %w", err)
	}
	if err := newKeyring(temporary, content); err != nil {
		return err
	}
	if err := os.Rename(temporary, a.WriteKeyring); err != nil {
		return fmt.Errorf("writing a keyring: %w", err)
	}
	return nil
}

func (a *applier) rewrapFile(file string, space *innodb.Space) (err error) {
	fail := func(err error) error { return fmt.Errorf("%s: giving it the new master key: %w", file, err) }
	old, err := tde.ParseMySQLInfo(space.MySQLInfo[:])
	var info tde.MySQLInfo
	if err == nil {
		info, err = old.Rewrap(a.Keys, a.master)
	}
	if err != nil {
		return fail(err)
	}
	f, err := a.root.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, space.Physical)
	if _, err := f.ReadAt(page, 0); err != nil {
		return fail(err)
	}
	algorithm, err := space.Verify(page, 0)
	if err != nil {
		torn, failed := false, error(nil)
		for _, algorithm = range []innodb.Checksum{innodb.ChecksumLegacy, innodb.ChecksumCRC32} {
			if torn, failed = a.tornByRewrap(space, page, old, algorithm); torn || failed != nil {
				break
			}
		}
		if failed != nil {
			return fail(failed)
		}
		if !torn {
			return &backupdir.DamageError{File: file, Err: err}
		}
	}
	copy(page[space.OffsetMySQLInfo():], info.Marshal())
	space.Stamp(page, algorithm)
	if _, err := f.WriteAt(page, 0); err != nil {
		return fail(err)
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	return nil
}

// tornByRewrap reports whether page 0, which does not verify, has nothing wrong but that an
// interrupted run was writing it: then each of its checksums is that of the page with the
// information that it has, with the new one, or with an earlier one, by any of the master keys.
// Servers up to 8.x may have stamped it by an algorithm that is not CRC-32C.
// The information itself is whole, because it does not cross a boundary of 512 bytes, except in
// pages of 2 KiB: if it is torn there, no key opens it, and that is an error before.
func (a *applier) tornByRewrap(space *innodb.Space, page []byte, info tde.MySQLInfo, algorithm innodb.Checksum) (bool, error) {
	if !a.result.Resumed {
		return false, nil
	}
	forms, err := info.Forms(a.Keys)
	if err != nil {
		return false, err
	}
	tail := len(page) - 8 // of its last 8 bytes, the first 4 are a checksum
	head, end := false, space.Zip()
	for _, form := range append(forms, space.MySQLInfo[:]) {
		whole := bytes.Clone(page)
		copy(whole[space.OffsetMySQLInfo():], form)
		space.Stamp(whole, algorithm)
		if _, err := space.Verify(whole, 0); err != nil {
			return false, nil // something else than a checksum is wrong
		}
		head = head || bytes.Equal(page[:4], whole[:4])
		end = end || bytes.Equal(page[tail:][:4], whole[tail:][:4])
	}
	return head && end, nil
}
