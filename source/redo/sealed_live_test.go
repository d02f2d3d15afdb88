package redo_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// redoCipher returns what decrypts blocks, by the information in the head of a log file.
func redoCipher(t *testing.T, info []byte, keys *keyring.Keys) mysqlredo.BlockCipher {
	t.Helper()
	i, err := tde.ParseMySQLInfo(info)
	if err != nil {
		t.Fatal(err)
	}
	key, err := i.Unlock(keys)
	if err != nil {
		t.Fatal(err)
	}
	return tde.NewRedoBlocks(key)
}

// decrypt decrypts the encrypted ones of blocks, and returns how many those were.
func decrypt(t *testing.T, blocks []byte, ciphers ...mysqlredo.BlockCipher) (sealed int) {
	t.Helper()
	var plain [redolog.BlockSize]byte
	for ; len(blocks) >= redolog.BlockSize; blocks = blocks[redolog.BlockSize:] {
		if !mysqlredo.Sealed(blocks) {
			continue
		}
		if _, ok := mysqlredo.Unseal(plain[:], blocks, ciphers, 0); !ok {
			t.Fatalf("a block does not decrypt: % x", blocks[:16])
		}
		copy(blocks, plain[:])
		sealed++
	}
	return sealed
}

// TestFollowEncrypted: the copy of an encrypted log is encrypted, has all of it, and has
// its key under a master key of the server; also if the server begins to encrypt its log
// after the copy began.
func TestFollowEncrypted(t *testing.T) {
	mysqldtest.Concurrent(t)
	for name, atStart := range map[string]string{"before": "ON", "switched": "OFF"} {
		t.Run(name, func(t *testing.T) {
			root := mysqldtest.Need(t, mysqldtest.MySQL97)
			o := smallLog(root)
			o.Keyring = filepath.Join(t.TempDir(), "keyring")
			s := mysqldtest.Start(t, root, o)
			s.Exec(t, "CREATE DATABASE e", "CREATE TABLE e.t (a INT) ENCRYPTION='Y'", "SET GLOBAL innodb_redo_log_encrypt = "+atStart)
			stop := writeSlowly(t, s, 5*time.Millisecond)
			defer stop()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			keys := new(keyring.Keys)
			if err := keys.ReadMySQLKeyring(o.Keyring); err != nil {
				t.Fatal(err)
			}
			f, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), redo.MySQLOptions{Advance: consumer(ctx, t, s), Keys: keys})
			if err != nil {
				t.Fatal(err)
			}
			out := &output{pause: 2 * time.Millisecond}
			f.Start(ctx, out, "hb test", cancel)
			for i := range 6 {
				goal := f.End() + 2<<20
				mysqldtest.Await(t, "redo is read", func() bool { return f.End() >= goal || ctx.Err() != nil })
				if atStart == "OFF" {
					s.Exec(t, "SET GLOBAL innodb_redo_log_encrypt = "+[]string{"ON", "OFF"}[i%2])
				}
				if i == 3 {
					s.Exec(t, "ALTER INSTANCE ROTATE INNODB MASTER KEY")
				}
			}
			s.Exec(t, "SET GLOBAL innodb_redo_log_encrypt = ON", "INSERT INTO e.t VALUES (1)")
			f.Hold()
			end := mysqlLSN(t, s)
			if err := f.Finish(ctx, end); err != nil {
				t.Fatal(errors.Join(err, context.Cause(ctx)))
			}
			stop()
			if _, err := f.Drain(ctx, nil); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			log := out.buf.Bytes()
			plain := false // a block after the first encrypted one
			for at, begun := mysqlredo.HeaderSize, false; at < len(log); at += redolog.BlockSize {
				is := mysqlredo.Sealed(log[at:])
				plain, begun = plain || begun && !is, begun || is
			}
			if plain != (atStart == "OFF") {
				t.Errorf("plain blocks after the first encrypted one: %v", plain)
			}
			if atStart == "ON" && bytes.Contains(log, bytes.Repeat([]byte("x"), 64)) {
				t.Error("the copy has rows in clear")
			}
			if last := log[len(log)-redolog.BlockSize:]; !mysqlredo.Sealed(last) {
				t.Error("the last block is not encrypted")
			}
			sealed := decrypt(t, log[mysqlredo.HeaderSize:], redoCipher(t, mysqlredo.Info(log), keys))
			t.Logf("%d of %d blocks are encrypted", sealed, (len(log)-mysqlredo.HeaderSize)/redolog.BlockSize)
			checkMySQLCopy(t, log, f, end)
			compareDecrypted(t, s, log, end, keys)
		})
	}
}

// compareDecrypted compares the decrypted copy with what is left in the log's files,
// decrypted.
func compareDecrypted(t *testing.T, s *mysqldtest.Server, log []byte, end innodb.LSN, keys *keyring.Keys) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	files, err := mysqlredo.OpenFiles(disk.OS, s.Datadir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close() // only read
	infos, err := files.Infos()
	if err != nil {
		t.Fatal(err)
	}
	var ciphers []mysqlredo.BlockCipher
	for _, info := range infos {
		ciphers = append(ciphers, redoCipher(t, info, keys))
	}
	l, err := mysqlredo.ParseLinear(log)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	block := make([]byte, redolog.BlockSize)
	for at := redolog.BlockOf(end) - redolog.BlockSize; at >= l.Start(); at -= redolog.BlockSize {
		if _, err := files.ReadAt(block, at); err != nil {
			if _, ok := errors.AsType[*mysqlredo.GoneError](err); !ok {
				t.Fatal(err)
			}
			break
		}
		decrypt(t, block, ciphers...)
		if ours := log[l.Offset(at):][:redolog.BlockSize]; !bytes.Equal(ours, block) {
			t.Fatalf("the block at LSN %d differs from the server's:\n%x\n%x", at, ours[:16], block[:16])
		}
		compared++
	}
	if t.Logf("%d blocks are the server's", compared); compared < 100 {
		t.Errorf("only %d blocks were compared with the server's files", compared)
	}
}

// TestFollowEncryptedNoKey: without the master key, an encrypted log is an error that
// names it, and not a copy.
func TestFollowEncryptedNoKey(t *testing.T) {
	mysqldtest.Concurrent(t)
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: filepath.Join(t.TempDir(), "keyring"), Config: []string{"innodb-redo-log-encrypt=ON"}})
	s.Exec(t, "CREATE DATABASE e", "CREATE TABLE e.t (a INT)", "INSERT INTO e.t VALUES (1)")
	f, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), redo.MySQLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f.Start(ctx, &output{}, "hb test", cancel)
	s.Exec(t, "INSERT INTO e.t VALUES (2)")
	err = f.Finish(ctx, mysqlLSN(t, s))
	missing, ok := errors.AsType[*keyring.MissingKeyError](err)
	if want := "the master key INNODBKey-" + s.Value(t, "SELECT @@server_uuid") + "-1"; !ok || missing.Name != want {
		t.Errorf("error = %v, want one of %q", err, want)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
