package sink_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source"
	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/stream"
	"hb/stream/leaktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// TestMain lets the test binary be the process that is killed while it applies.
func TestMain(m *testing.M) {
	if dir := os.Getenv("HB_TEST_APPLY"); dir != "" {
		o := apply.Options{Memory: 4 << 20, ByServer: os.Getenv("HB_TEST_BY_SERVER") != ""}
		if _, err := apply.Run(context.Background(), dir, o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// sink has no connections; those are the tests' own, to servers that they kill.
	os.Exit(leaktest.Run(m, "go-sql-driver/mysql.(*mysqlConn).startWatcher"))
}

// fidelityCase is one kind of server whose backups are recovered by both tools.
type fidelityCase struct {
	server   string
	pageSize int
	checksum string
	undo     bool // innodb_undo_tablespaces, truncated often
	own      bool // the backup is hb's, not mariadb-backup's
	long     bool // not in the short form of the test
	// keys is the key file of a server that encrypts its tables, and redo says that it encrypts its
	// redo log, too: see TestFidelityEncrypted.
	keys string
	redo bool
}

func fidelityCases() []fidelityCase {
	short := []fidelityCase{
		{server: mysqldtest.MariaDB105, pageSize: 16384, checksum: "crc32", undo: true},
		{server: mysqldtest.MariaDB1011, pageSize: 4096, checksum: "full_crc32", undo: true, own: true},
		{server: mysqldtest.MariaDB118, pageSize: 65536, checksum: "crc32"},
		{server: mysqldtest.MariaDB118, pageSize: 16384, checksum: "full_crc32", undo: true, own: true},
	}
	cases := slices.Clone(short)
	for _, server := range mysqldtest.MariaDB {
		for _, size := range []int{4096, 16384, 65536} {
			for _, sum := range []string{"full_crc32", "crc32"} {
				for _, own := range []bool{false, true} {
					c := fidelityCase{server: server, pageSize: size, checksum: sum, undo: size != 65536, own: own}
					if !slices.Contains(short, c) {
						c.long = true
						cases = append(cases, c)
					}
				}
			}
		}
	}
	return cases
}

// TestFidelity takes backups of servers under load with hb or mariadb-backup,
// recovers each by apply and by mariadb-backup --prepare, and compares every
// page of every tablespace. Then a server starts on apply's result. The same
// backup is recovered in other ways too: with hardly any memory, by one worker,
// and by a process that is killed again and again.
func TestFidelity(t *testing.T) {
	for _, c := range fidelityCases() {
		if c.long && !mysqldtest.Long() {
			continue
		}
		tool := "mariadb-backup"
		if c.own {
			tool = "hb"
		}
		t.Run(fmt.Sprintf("%s/%d/%s/%s", c.server, c.pageSize, c.checksum, tool), func(t *testing.T) {
			root := mysqldtest.Need(t, c.server)
			if !root.HasTool("mariadb-backup") {
				t.Fatal("the server's root has no mariadb-backup")
			}
			base := t.TempDir()
			backup := filepath.Join(base, "backup")
			takeBackup(t, root, c, backup)

			peer := copyTree(t, backup, filepath.Join(base, "peer"))
			prepare := root.Tool("mariadb-backup", "--prepare", "--target-dir="+peer)
			if out, err := prepare.CombinedOutput(); err != nil {
				t.Fatalf("mariadb-backup --prepare: %v\n%s", err, tail(out))
			}
			ours := copyTree(t, backup, filepath.Join(base, "ours"))
			r := mustApply(t, ours, apply.Options{})
			t.Logf("LSN %d to %d, %d mini-transactions, %d runs, %d pages written", r.FromLSN, r.LSN, r.MTRs, r.Runs, r.Pages)
			compareTablespaces(t, backup, ours, peer, c.pageSize, nil)
			compareFinal(t, ours, peer)
			otherWays(t, base, backup, ours)
			refusedHalfDone(t, root, base, backup, options(c))

			again := mustApply(t, ours, apply.Options{})
			if !again.AlreadyApplied || again.LSN == 0 {
				t.Errorf("applying a second time: %+v", again)
			}
			s := mysqldtest.StartOn(t, root, ours, options(c))
			if err := workload.Check(t.Context(), s.DB()); err != nil {
				checkPeer(t, root, c, peer, err)
			}
			for _, table := range extraTables {
				for _, row := range s.Rows(t, "CHECK TABLE "+table.name+" EXTENDED") {
					if row[3] != "OK" {
						t.Errorf("CHECK TABLE %s: %v", table.name, row)
					}
				}
			}
		})
	}
}

// TestMariaDBByServer lets servers recover backups by themselves, hb's and
// mariadb-backup's.
func TestMariaDBByServer(t *testing.T) {
	for i, server := range mysqldtest.MariaDB {
		c := fidelityCase{server: server, pageSize: 16384, checksum: "full_crc32", undo: true, own: i != 1}
		t.Run(server, func(t *testing.T) {
			root := mysqldtest.Need(t, server)
			backup := filepath.Join(t.TempDir(), "backup")
			takeBackup(t, root, c, backup)
			log, err := os.ReadFile(filepath.Join(backup, "ib_logfile0"))
			if err != nil {
				t.Fatal(err)
			}
			r := mustApply(t, backup, apply.Options{ByServer: true})
			if after, err := os.ReadFile(filepath.Join(backup, "ib_logfile0")); err != nil || !bytes.Equal(after, log) || r.LSN <= r.FromLSN {
				t.Errorf("the log was changed: %v, %+v", err, r)
			}
			if r := mustApply(t, backup, apply.Options{ByServer: true}); !r.AlreadyApplied {
				t.Errorf("made ready once more: %+v", r)
			}
			if r, err := verify.Directory(t.Context(), backup, verify.Options{}); err != nil || !r.HandedOver {
				t.Errorf("verified: %+v, %v", r, err)
			}
			s := mysqldtest.StartOn(t, root, backup, options(c))
			if err := workload.Check(t.Context(), s.DB()); err != nil && c.own { // the other loses files of Aria
				t.Error(err)
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if _, err := apply.Run(t.Context(), backup, apply.Options{ByServer: true}); err == nil || !strings.Contains(err.Error(), "has run on it since") {
				t.Errorf("applied where a server has run: %v", err)
			}
		})
	}
}

// checkPeer looks whether the peer's own recovery of its backup has the same
// faults: then they are the backup's. (It is known to lose the files of Aria
// tables that DDL meets while it copies.)
func checkPeer(t *testing.T, root *mysqldtest.Root, c fidelityCase, peer string, ours error) {
	t.Helper()
	s := mysqldtest.StartOn(t, root, peer, options(c))
	err := workload.Check(t.Context(), s.DB())
	if err == nil || err.Error() != ours.Error() {
		t.Errorf("the restored server: %v\nas the peer restores it: %v", ours, err)
		return
	}
	t.Logf("the peer's backup has faults of its own, whoever restores it: %v", err)
}

func options(c fidelityCase) mysqldtest.Options {
	o := mysqldtest.Options{
		PageSize: c.pageSize,
		Init:     []string{"innodb-checksum-algorithm=" + c.checksum},
		Config: []string{
			"innodb-buffer-pool-size=32M", "innodb-log-file-size=1G", "innodb-flush-log-at-trx-commit=2",
			"innodb-max-dirty-pages-pct=50", "innodb-strict-mode=0", "innodb-fast-shutdown=1",
		},
	}
	if c.keys != "" {
		o.Config = append(o.Config, "plugin-load-add=file_key_management", "file-key-management-filename="+c.keys, "innodb-encrypt-tables=ON", "innodb-encryption-threads=1")
	}
	if c.redo {
		o.Config = append(o.Config, "innodb-encrypt-log=ON")
	}
	if c.undo {
		o.Init = append(o.Init, "innodb-undo-tablespaces=3")
		o.Config = append(o.Config, "innodb-undo-log-truncate=ON", "innodb-max-undo-log-size=10485760",
			"innodb-purge-rseg-truncate-frequency=1")
	}
	return o
}

// extraTables are of formats whose pages are stored in forms of their own.
var extraTables = []struct{ name, options string }{
	{"extra.redundant", "ROW_FORMAT=REDUNDANT"},
	{"extra.zip", "ROW_FORMAT=COMPRESSED"},
	{"extra.zip1", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1"},
	{"extra.pagecomp", "PAGE_COMPRESSED=1"},
}

// takeBackup runs a load on a new server and backs it up with mariadb-backup.
func takeBackup(t *testing.T, root *mysqldtest.Root, c fidelityCase, target string) {
	s := mysqldtest.Start(t, root, options(c))
	s.Exec(t, "CREATE DATABASE extra")
	for _, table := range extraTables {
		s.Exec(t, "CREATE TABLE "+table.name+" (id INT PRIMARY KEY AUTO_INCREMENT, k INT, v VARCHAR(300), b MEDIUMTEXT, KEY(k), KEY(v(100))) ENGINE=InnoDB "+table.options)
	}
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{Rate: 30, DDLRate: 2, MaxBlob: 30000})
	if err != nil {
		t.Fatal(err)
	}
	// A checkpoint, so that the log begins with pages that are on disk.
	s.WriteOut(t)
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct=50")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- load.Run(ctx) }()
	go func() { ended <- churn(ctx, s) }()
	time.Sleep(time.Second)
	if c.own {
		err = ownBackup(t, s, target)
	} else {
		err = peerBackup(t, s, root, c.pageSize, target)
	}
	stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("load: %v", err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
}

// ownBackup makes and extracts a backup with hb, slowly.
func ownBackup(t *testing.T, s *mysqldtest.Server, target string) error {
	srv, err := mysqld.Connect(t.Context(), login.Options{Network: "unix", Socket: s.Socket, User: "root"})
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := source.Run(t.Context(), srv, w, source.Options{
			Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test",
			Pace: stream.NewPacer(20 << 20).Wait,
		})
		done <- errors.Join(err, w.Close(), srv.Close())
	}()
	_, err = extract.Run(t.Context(), r, target, extract.Options{})
	return errors.Join(err, r.Close(), <-done)
}

// peerBackup makes a backup with mariadb-backup, slowly where it can.
func peerBackup(t *testing.T, s *mysqldtest.Server, root *mysqldtest.Root, pageSize int, target string) error {
	args := []string{"--defaults-file=" + s.DefaultsFile, "--backup", "--target-dir=" + target}
	if root.AtLeast(10, 11) {
		args = append(args, fmt.Sprintf("--throttle=%d", 40*pageSize/16384)) // that of 10.5 slows down its reading of the log too
	}
	for try := 0; ; try++ {
		out, err := s.Tool("mariadb-backup", args...).CombinedOutput()
		if err == nil {
			return nil
		}
		// Concurrent DDL sometimes makes it fail.
		if try == 4 {
			return fmt.Errorf("mariadb-backup: %w\n%s", err, tail(out))
		}
		t.Logf("mariadb-backup failed, once more: %v", err)
		os.RemoveAll(target)
	}
}

// churn inserts, changes and deletes in the extra tables.
func churn(ctx context.Context, s *mysqldtest.Server) error {
	random := rand.New(rand.NewPCG(1, 2))
	for n := 0; ctx.Err() == nil; n++ {
		table := extraTables[n%len(extraTables)].name
		var statement string
		switch n / len(extraTables) % 4 {
		case 0, 1:
			statement = fmt.Sprintf("INSERT INTO %s (k, v, b) SELECT seq * %d %% 1000, REPEAT(CHAR(97 + seq %% 26), seq * 7 %% 250), REPEAT(UUID(), seq * %d %% 100) FROM extra.seq_1_to_40",
				table, random.IntN(1000)+1, random.IntN(60)+1)
		case 2:
			statement = fmt.Sprintf("UPDATE %s SET k = k + 1, v = CONCAT(v, 'x'), b = REPEAT(b, 2) WHERE id %% 50 = %d AND LENGTH(b) < 20000", table, random.IntN(50))
		case 3:
			statement = fmt.Sprintf("DELETE FROM %s WHERE id %% 20 = %d", table, random.IntN(20))
		}
		if _, err := s.DB().ExecContext(ctx, statement); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
		select { // the peer must be able to follow
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-2000):] }

func mustApply(t *testing.T, dir string, o apply.Options) *apply.Result {
	t.Helper()
	r, err := apply.Run(t.Context(), dir, o)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	for _, w := range r.Warnings {
		if !otherThanPool(w) {
			continue
		}
		t.Errorf("apply warns: %s", w)
	}
	return r
}

func copyTree(t *testing.T, from, to string) string {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// files returns the names of all files under dir that match.
func files(t *testing.T, dir string, match func(name string) bool) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && match(name) {
			found[name] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func isTablespace(name string) bool {
	return strings.HasSuffix(name, ".ibd") || strings.HasPrefix(name, "ibdata") || strings.HasPrefix(name, "undo0")
}

// compareTablespaces compares all pages. The forms of page_compressed pages may
// differ: hb writes them uncompressed, and does not erase those that were freed. keys are those of
// encrypted ones, which it counts; nil if nothing is encrypted.
func compareTablespaces(t *testing.T, backup, ours, peers string, pageSize int, keys *keyring.Keys) (sealed int) {
	got, want := files(t, ours, isTablespace), files(t, peers, isTablespace)
	if !maps.Equal(got, want) {
		t.Errorf("tablespaces: %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	pages, inflated, freed, only := 0, 0, 0, 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		a, err := os.ReadFile(filepath.Join(ours, name))
		if err != nil {
			t.Error(err)
			continue
		}
		b, err := os.ReadFile(filepath.Join(peers, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(a) != len(b) {
			t.Errorf("%s: %d bytes, want %d", name, len(a), len(b))
			continue
		}
		flags := binary.BigEndian.Uint32(b[54:])
		size := pageSize
		if code := flags >> 1 & 15; flags&16 == 0 && code != 0 {
			size = 512 << code
		}
		differ := 0
		open := opener(t, b, keys)
		for at := 0; at+size <= len(b); at += size {
			pages++
			pa, pb := a[at:at+size], b[at:at+size]
			stored := pa
			var isOurs, isPeers bool
			if pb, isPeers = open(pb, at/size); isPeers {
				sealed++
			}
			if bytes.Equal(stored, b[at:at+size]) {
				continue
			}
			if pa, isOurs = open(pa, at/size); isPeers && !isOurs {
				t.Errorf("%s: page %d is in clear", name, at/size)
			}
			if isOurs && !isPeers {
				only++
				sealed++
			}
			if pageCompressed(flags) && len(bytes.Trim(pb, "\x00")) == 0 && untouched(backup, name, int64(at), stored) {
				freed++
				continue
			}
			if bytes.Equal(pa, pb) {
				continue
			}
			if bytes.Equal(stored[4:24], b[at+4:at+24]) && bytes.Equal(inflate(t, flags, pa), inflate(t, flags, pb)) {
				inflated++
				continue
			}
			if differ++; differ <= 3 {
				t.Errorf("%s: page %d differs, first at byte %d", name, at/size, firstDifference(pa, pb))
			}
		}
		if differ > 0 {
			t.Errorf("%s: %d pages differ", name, differ)
		}
	}
	t.Logf("%d pages compared, %d of them after decompression, %d freed pages that only the peer erased, %d that only hb encrypted", pages, inflated, freed, only)
	if pages < 1000 {
		t.Errorf("only %d pages were compared", pages)
	}
	return sealed
}

// opener returns what returns a page of a tablespace, whose content is given, in clear, and reports
// whether it is encrypted.
func opener(t *testing.T, content []byte, keys *keyring.Keys) func(page []byte, no int) ([]byte, bool) {
	t.Helper()
	space, err := innodb.ParseSpace(content)
	if keys == nil || err != nil { // such as the second file of the system tablespace
		return func(page []byte, _ int) ([]byte, bool) { return page, false }
	}
	if space.Cipher, err = tde.Open(&space, nil, keys); err != nil {
		t.Fatal(err)
	}
	return func(page []byte, no int) ([]byte, bool) {
		if other := binary.BigEndian.Uint32(page[4:]) != uint32(no); other || !space.Sealed(page, innodb.PageNo(no)) {
			return page, false // other: in the doublewrite area
		}
		plain := bytes.Clone(page)
		if _, err := space.Unseal(plain, innodb.PageNo(no)); err != nil {
			t.Errorf("page %d of tablespace %d: %v", no, space.ID, err)
		}
		return plain, true
	}
}

// TestFidelityEncrypted recovers backups of servers that encrypt all tables by apply and by
// mariadb-backup --prepare, and compares every page as it is stored: with the same key, the same
// content and the same LSN the bytes are the same. Those that the two compress differently, or that
// only hb encrypts, are compared after decryption, and their headers before. (The server encrypts
// tables without a setting of their own by innodb_encrypt_tables, which --prepare does not have.)
func TestFidelityEncrypted(t *testing.T) {
	for _, c := range []fidelityCase{
		{server: mysqldtest.MariaDB105, pageSize: 16384, checksum: "crc32", own: true},
		{server: mysqldtest.MariaDB1011, pageSize: 16384, checksum: "full_crc32"},
		{server: mysqldtest.MariaDB118, pageSize: 16384, checksum: "full_crc32", own: true, redo: true},
	} {
		t.Run(c.server, func(t *testing.T) {
			root := mysqldtest.Need(t, c.server)
			base := t.TempDir()
			c.keys = filepath.Join(base, "keys")
			if err := os.WriteFile(c.keys, []byte("1;770A8A65DA156D24EE2A093277530142\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			keys, err := (&keyring.Flags{KeyFile: c.keys}).Load()
			if err != nil {
				t.Fatal(err)
			}
			backup := filepath.Join(base, "backup")
			takeBackup(t, root, c, backup)
			peer, ours := copyTree(t, backup, filepath.Join(base, "peer")), copyTree(t, backup, filepath.Join(base, "ours"))
			if out, err := root.Tool("mariadb-backup", "--prepare", "--target-dir="+peer).CombinedOutput(); err != nil {
				t.Fatalf("mariadb-backup --prepare: %v\n%s", err, tail(out))
			}
			r := mustApply(t, ours, apply.Options{Keys: keys})
			sealed := compareTablespaces(t, backup, ours, peer, c.pageSize, keys)
			t.Logf("LSN %d to %d, %d pages written; %d pages are encrypted", r.FromLSN, r.LSN, r.Pages, sealed)
			if sealed < 500 || r.Pages < 500 {
				t.Error("too few pages for a comparison")
			}
			s := mysqldtest.StartOn(t, root, ours, options(c))
			if err := workload.Check(t.Context(), s.DB()); err != nil {
				checkPeer(t, root, c, peer, err)
			}
			for _, table := range extraTables {
				for _, row := range s.Rows(t, "CHECK TABLE "+table.name+" EXTENDED") {
					if row[3] != "OK" {
						t.Errorf("CHECK TABLE %s: %v", table.name, row)
					}
				}
			}
		})
	}
}

func pageCompressed(flags uint32) bool {
	return flags&16 != 0 && flags>>5&7 != 0 || flags&16 == 0 && flags>>16&1 != 0
}

// untouched reports whether a page is as the backup has it.
func untouched(backup, name string, at int64, page []byte) bool {
	for _, n := range []string{name, strings.TrimSuffix(name, ".ibd") + ".new"} {
		f, err := os.Open(filepath.Join(backup, n))
		if err != nil {
			continue
		}
		was := make([]byte, len(page))
		_, err = f.ReadAt(was, at)
		f.Close()
		if err == nil && bytes.Equal(was, page) {
			return true
		}
	}
	return false
}

// inflate returns the plain form of a page that may be page_compressed with
// zlib, without the checksum that only the stored form has.
func inflate(t *testing.T, flags uint32, page []byte) []byte {
	kind := binary.BigEndian.Uint16(page[24:])
	plain := page
	switch {
	case flags&16 != 0 && kind&0x8000 != 0:
		plain = unzip(t, page[26:int(kind&0xFF)<<8-4])
	case flags&16 == 0 && kind == 34354:
		plain = unzip(t, page[40:40+int(binary.BigEndian.Uint16(page[38:]))])
	}
	if flags&16 != 0 {
		return plain[:len(plain)-4]
	}
	return plain
}

func unzip(t *testing.T, b []byte) []byte {
	r, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// compareFinal compares the redo logs, except for the creator and its checksum,
// and the checkpoints file.
func compareFinal(t *testing.T, ours, peers string) {
	read := func(dir, name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	a, b := read(ours, "ib_logfile0"), read(peers, "ib_logfile0")
	if len(a) == len(b) && len(a) > 512 {
		if !bytes.HasPrefix(a[16:], []byte("Backup ")) {
			t.Errorf("creator %q", a[16:48])
		}
		clear(a[16:48])
		clear(b[16:48])
		clear(a[508:512])
		clear(b[508:512])
	}
	if !bytes.Equal(a, b) {
		t.Errorf("the redo logs differ (%d and %d bytes)", len(a), len(b))
	}
	for name := range files(t, peers, func(name string) bool { return strings.HasSuffix(name, "checkpoints") }) {
		if a, b := read(ours, name), read(peers, name); !bytes.Equal(a, b) {
			t.Errorf("%s:\n%s\nwant:\n%s", name, a, b)
		}
	}
	for name := range files(t, ours, func(name string) bool {
		return strings.HasPrefix(filepath.Base(name), "hb-") && name != backupdir.AppliedName
	}) {
		if name != metadata.ArchiveName && name != metadata.IndexName && name != metadata.ManifestName && name != metadata.DefinitionsName {
			t.Errorf("%s was left behind", name)
		}
	}
}

// otherWays recovers the backup in other ways and expects the same bytes.
func otherWays(t *testing.T, base, backup, want string) {
	dir := copyTree(t, backup, filepath.Join(base, "small"))
	r := mustApply(t, dir, apply.Options{Memory: 1, Parallel: 1})
	if r.Spilled == 0 {
		t.Error("with hardly any memory nothing was put aside")
	}
	sameTrees(t, "with little memory", dir, want)

	dir = copyTree(t, backup, filepath.Join(base, "many"))
	mustApply(t, dir, apply.Options{Parallel: 16})
	sameTrees(t, "with many workers", dir, want)

	dir = copyTree(t, backup, filepath.Join(base, "killed"))
	kills := 0
	for wait := 10 * time.Millisecond; kills < 200; wait += wait / 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "HB_TEST_APPLY="+dir)
		var out bytes.Buffer
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(wait, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		if timer.Stop() {
			if err != nil {
				t.Fatalf("apply after %d kills: %v\n%s", kills, err, out.Bytes())
			}
			break
		}
		kills++
	}
	if kills < 3 {
		t.Errorf("the process was killed only %d times before it was done", kills)
	}
	t.Logf("killed %d times", kills)
	sameTrees(t, "killed again and again", dir, want)
}

// sameTrees compares all files of two directories.
func sameTrees(t *testing.T, what, got, want string) {
	t.Helper()
	all := func(string) bool { return true }
	a, b := files(t, got, all), files(t, want, all)
	if !maps.Equal(a, b) {
		t.Errorf("%s: files %v, want %v", what, slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
		return
	}
	for name := range a {
		x, err := os.ReadFile(filepath.Join(got, name))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(want, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(x) > 512 && filepath.Base(name) == "ib_logfile0" {
			clear(x[16:48]) // the child names no tool
			clear(y[16:48])
			clear(x[508:512])
			clear(y[508:512])
		}
		if !bytes.Equal(x, y) {
			t.Errorf("%s: %s differs", what, name)
		}
	}
	os.RemoveAll(got)
}
