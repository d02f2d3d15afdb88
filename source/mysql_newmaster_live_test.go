package source_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
	"hb/stream"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// TestNewMasterKey: with --new-master-key the keys of all tablespaces are encrypted by one
// master key, which is the only one of InnoDB in the keyring that hb writes, and with which
// the server starts. So it is, too, if the disk is gone at any moment, while page 0 of a
// tablespace is written included, and apply is run again.
func TestNewMasterKey(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := disktest.Memory(t)
	old := filepath.Join(dir, "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Keyring: old, Config: encryptedMySQL})
	numbers(t, s)
	fill(t, s, "d.a", "ENCRYPTION='Y'")
	fill(t, s, "d.zip", "ENCRYPTION='Y' ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8")
	s.Exec(t, "ALTER TABLESPACE mysql ENCRYPTION='Y'", "ALTER INSTANCE ROTATE INNODB MASTER KEY")
	archive := filepath.Join(dir, "archive")
	hookedBackup(t, s, archive, hooks{})
	want := checksums(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	unpack(t, archive, image)
	target, ring := filepath.Join(dir, "target"), filepath.Join(dir, "written")
	run := func(system *disktest.Faults, master bool) error {
		o := apply.Options{Tool: "hb test", Parallel: 1, Keys: keysOf(t, old), KeyringOptions: apply.KeyringOptions{NewMasterKey: master, WriteKeyring: ring}}
		if system != nil {
			o.System = system
		}
		_, err := apply.Run(t.Context(), target, o)
		return err
	}
	begin := func() *disktest.Faults {
		t.Helper()
		if err := errors.Join(os.RemoveAll(target), os.CopyFS(target, os.DirFS(image))); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(ring); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return disktest.NewFaults(target)
	}
	whole := begin()
	if err := run(whole, true); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	names[onlyMaster(t, target, ring)] = true
	for _, op := range rewrapOps(t, whole.Ops()) {
		system := begin()
		system.Fail(op, syscall.EIO, true)
		if err := run(system, true); err == nil || !system.Hit() {
			t.Fatalf("%v: %v", op, err)
		}
		if _, err := os.Stat(filepath.Join(target, "hb-applying")); err == nil {
			before := disktest.ReadTree(t, target)
			if err := run(nil, false); !isUsage(err) || !maps.Equal(disktest.ReadTree(t, target), before) {
				t.Errorf("%v: without the option: %v", op, err)
			}
		}
		if err := run(nil, true); err != nil {
			t.Errorf("%v: again: %v", op, err)
			continue
		}
		names[onlyMaster(t, target, ring)] = true
	}
	damagedRewrap(t, whole.Ops(), begin, run, target)
	t.Logf("%d runs", len(names))
	if len(names) < 10 {
		t.Error("master keys are used again, or too little was tried")
	}
	if err := os.Rename(old, old+".gone"); err != nil {
		t.Fatal(err)
	}
	copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Keyring: ring, Config: encryptedMySQL})
	compareSums(t, copied, want)
	copied.Exec(t, "CREATE TABLE d.more (a INT PRIMARY KEY) ENCRYPTION='Y'", "ALTER INSTANCE ROTATE INNODB MASTER KEY", "UPDATE d.a SET v = 'x'")
	if err := copied.Stop(); err != nil {
		t.Fatal(err)
	}
	again := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Keyring: ring, Config: encryptedMySQL})
	if n := again.Value(t, "SELECT COUNT(*) FROM d.a WHERE v = 'x'"); n == "0" {
		t.Error("after a rotation and a restart rows are missing")
	}
}

// damagedRewrap: where an interrupted run was giving page 0 the new master key, apply does not take
// other damage for what that run left there.
func damagedRewrap(t *testing.T, ops []disktest.Op, begin func() *disktest.Faults, run func(*disktest.Faults, bool) error, target string) {
	t.Helper()
	const name = "d/a.ibd"
	last := -1
	for i, op := range ops {
		if op.Kind == disktest.Write && op.Name == name {
			last = i
		}
	}
	flip := func(at int64) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(target, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		_, err = f.ReadAt(b[:], at)
		b[0] ^= 1
		if err == nil {
			_, err = f.WriteAt(b[:], at)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []int64{0, 60, 1000, 16375, 16380} {
		system := begin()
		system.Fail(ops[last+1], syscall.EIO, true)
		if err := run(system, true); err == nil || !system.Hit() {
			t.Fatal(err)
		}
		flip(at)
		err := run(nil, true)
		if damage, ok := errors.AsType[*backupdir.DamageError](err); !ok || damage.File != name {
			t.Errorf("byte %d of page 0 was changed: %v", at, err)
		}
		flip(at)
		if err := run(nil, true); err != nil {
			t.Errorf("byte %d is as it was: %v", at, err)
		}
	}
}

func isUsage(err error) bool {
	_, ok := errors.AsType[*stream.UsageError](err)
	return ok
}

// rewrapOps are the operations at which page 0 of tablespaces is written for the last time,
// and some before and after them.
func rewrapOps(t *testing.T, ops []disktest.Op) (some []disktest.Op) {
	t.Helper()
	for _, name := range []string{"mysql.ibd", "undo_001", "d/zip.ibd", "d/a.ibd"} {
		last := -1
		for i, op := range ops {
			if op.Kind == disktest.Write && op.Name == name {
				last = i
			}
		}
		if last < 0 {
			t.Fatalf("%s is not written", name)
		}
		some = append(some, ops[last], ops[last+1], ops[last-1])
	}
	for i := len(ops) / 8; i < len(ops); i += len(ops) / 8 {
		some = append(some, ops[i])
	}
	slices.SortFunc(some, func(a, b disktest.Op) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(some)
}

// onlyMaster makes sure that a recovered directory needs no other master key of InnoDB than
// the one that the keyring has, and returns its name.
func onlyMaster(t *testing.T, dir, ring string) string {
	t.Helper()
	b, err := os.ReadFile(ring)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`INNODBKey-[0-9a-f-]+`).FindAllString(string(b), -1)
	if len(found) != 1 {
		t.Fatalf("the keyring has %q", found)
	}
	n := 0
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		page, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		space, err := innodb.ParseSpace(page)
		if err != nil || !space.MySQLEncrypted() {
			return nil
		}
		n++
		info, err := tde.ParseMySQLInfo(space.MySQLInfo[:])
		if err == nil && info.Master() != found[0] {
			err = fmt.Errorf("its master key is %s, the keyring has %s", info.Master(), found[0])
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return nil
	})
	if err != nil || n < 5 {
		t.Errorf("%d encrypted tablespaces, %v", n, err)
	}
	r, err := verify.Directory(t.Context(), dir, verify.Options{Keys: keysOf(t, ring), Tmpdir: t.TempDir()})
	if err != nil || r.Partial() != nil {
		t.Errorf("%+v, %v", r, err)
	}
	return found[0]
}

// TestSealedByServer: a server recovers by itself a backup whose redo log is encrypted. hb
// leaves the log encrypted, and without the keys changes nothing.
func TestSealedByServer(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := disktest.Memory(t)
	file := filepath.Join(dir, "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: file, Config: append([]string{"skip-log-bin"}, encryptedMySQL[:2]...)})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.plain (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(2000))", "CREATE TABLE d.sealed LIKE d.plain", "ALTER TABLE d.sealed ENCRYPTION='Y'")
	archive := filepath.Join(dir, "archive")
	hookedBackup(t, s, archive, hooks{pace: func(n int) {
		if n > 40 {
			return
		}
		for _, table := range []string{"plain", "sealed"} {
			s.Exec(t, "INSERT INTO d."+table+" (b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) SELECT CONCAT('"+marker+"', REPEAT('x', 1000)) FROM n")
		}
	}})
	want := checksums(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "target")
	unpack(t, archive, target)
	before := disktest.ReadTree(t, target)
	_, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", ByServer: true})
	if missing, ok := errors.AsType[*keyring.MissingKeyError](err); !ok || !strings.Contains(missing.Error(), "INNODBKey-") || !maps.Equal(disktest.ReadTree(t, target), before) {
		t.Errorf("without keys: %v", err)
	}
	r, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", ByServer: true, Keys: keysOf(t, file)})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("LSN %d to %d", r.FromLSN, r.LSN)
	if names := inFiles(t, filepath.Join(target, "#innodb_redo"), []byte(marker)); len(names) > 0 {
		t.Errorf("rows are in clear in %q", names)
	}
	copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Keyring: file, Config: encryptedMySQL[:2]})
	compareSums(t, copied, want)
	if n := copied.Value(t, "SELECT COUNT(*) FROM d.sealed"); n != copied.Value(t, "SELECT COUNT(*) FROM d.plain") || n == "0" {
		t.Errorf("%s rows", n)
	}
}

// TestUnusedKeysByServer: a server recovers by itself, without a keyring, a backup in which nothing
// is encrypted, of a server that has keys.
func TestUnusedKeysByServer(t *testing.T) {
	mysqldtest.Concurrent(t)
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	o := mysqldtest.Options{Keyring: filepath.Join(dir, "keyring"), Config: []string{"skip-log-bin"}}
	s := mysqldtest.Start(t, root, o)
	numbers(t, s)
	s.Exec(t, "CREATE TABLE d.was (a INT) ENCRYPTION='Y'", "DROP TABLE d.was", "SET GLOBAL innodb_redo_log_encrypt=ON", "SET GLOBAL innodb_redo_log_encrypt=OFF")
	if err := s.Stop(); err != nil { // or the redo log has the key of that table
		t.Fatal(err)
	}
	s = mysqldtest.StartOn(t, root, s.Datadir, o)
	fill(t, s, "d.a", "")
	archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "target")
	hookedBackup(t, s, archive, hooks{})
	want := checksums(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	unpack(t, archive, target)
	if head, err := os.ReadFile(filepath.Join(target, "xtrabackup_logfile")); err != nil || mysqlredo.Info(head) == nil {
		t.Errorf("the backup's redo log has no key: the test proves nothing (%v)", err)
	}
	if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", ByServer: true}); err != nil {
		t.Fatal(err)
	}
	copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: []string{"skip-log-bin"}})
	compareSums(t, copied, want)
}
