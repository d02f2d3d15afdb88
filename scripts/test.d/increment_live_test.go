package testd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/stream/disk/disktest"
	"hb/stream/remote/remotetest"
)

// TestIncrement makes incremental backups with the program, on each kind of base, and
// restores them; what is no base it refuses before it sends a byte.
func TestIncrement(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		dir := t.TempDir()
		data := filepath.Join(dir, "data")
		if err := root.Initialise(data, nil); err != nil { // with an identity of its own
			t.Fatal(err)
		}
		s := mysqldtest.StartOn(t, root, data, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT) ENGINE=InnoDB", "INSERT INTO d.t (v) VALUES (REPEAT('x', 3000))")
		for range 9 {
			s.Exec(t, "INSERT INTO d.t (v) SELECT v FROM d.t")
		}
		in := func(name string) string { return filepath.Join(dir, name) }
		options := []string{"--no-defaults", "-u", "root", "-S", s.Socket}
		backup := func(to string, args ...string) hbtest.Result {
			t.Helper()
			out, err := os.Create(in(to))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd := hb(t, append(append([]string{"backup"}, options...), args...)...)
			cmd.Stdout = out
			return hbtest.Finish(t, cmd)
		}
		good := func(to string, args ...string) {
			t.Helper()
			if r := backup(to, args...); r.Code != 0 {
				t.Fatalf("%v: %s", args, r.Stderr)
			}
		}
		good("full", "--compress", "--manifest-out", in("full.json"))
		listed := hbtest.Succeed(t, hb(t, "list", "--manifest", in("full"))).Stdout
		if text, err := os.ReadFile(in("full.json")); err != nil || string(text) != listed {
			t.Errorf("--manifest-out and list --manifest: %v, %d and %d bytes", err, len(text), len(listed))
		}
		hbtest.Succeed(t, hb(t, "extract", "-C", in("extracted"), in("full")))
		s.Exec(t, "UPDATE d.t SET v = 'changed' WHERE id = 100")
		for _, base := range []string{"full.json", "full", "extracted"} {
			hbtest.Succeed(t, hb(t, append(append([]string{"check", "--rate-interval=100ms"}, options...), "--since", in(base))...))
			good("inc of "+base, "--since", in(base))
			hbtest.Succeed(t, hb(t, "verify", in("full"), in("inc of "+base)))
		}
		viaAddress(t, in("full"), options)
		full, inc := size(t, in("full")), size(t, in("inc of full"))
		t.Logf("full %d bytes compressed, increment %d bytes", full, inc)
		good("inc 1", "--since", in("full.json"), "--compress")
		s.Exec(t, "UPDATE d.t SET v = 'changed again' WHERE id = 200")
		good("inc 2", "--since", in("inc 1"), "--manifest-out", in("inc 2.json"))
		want := s.Rows(t, "CHECKSUM TABLE d.t")[0][1]

		refuse := func(code int, base string, words string) {
			t.Helper()
			r := backup("refused", "--since", in(base))
			if r.Code != code || !strings.Contains(r.Stderr, words) || size(t, in("refused")) != 0 {
				t.Errorf("%s: exit code %d, %s", base, r.Code, r.Stderr)
			}
			if r := hbtest.Finish(t, hb(t, append(append([]string{"check", "--rate-interval=100ms"}, options...), "--since", in(base))...)); r.Code != code || !strings.Contains(r.Stdout, words) {
				t.Errorf("check, %s: exit code %d, %s", base, r.Code, r.Stdout)
			}
		}
		text, err := os.ReadFile(in("full.json"))
		if err != nil {
			t.Fatal(err)
		}
		put := func(name string, text []byte) {
			t.Helper()
			if err := os.WriteFile(in(name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		put("cut", text[:len(text)-20])
		put("flipped", bytes.Replace(text, []byte("d/t.ibd"), []byte("d/u.ibd"), 1))
		put("odd", []byte("this is something else"))
		refuse(6, "cut", "base")
		refuse(7, "flipped", "checksum")
		refuse(7, "odd", "base")
		refuse(2, "none", "none")
		hbtest.Succeed(t, hb(t, "apply", in("extracted")))
		refuse(11, "extracted", "hb apply has recovered it")
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		again := in("again")
		if err := root.Initialise(again, nil); err != nil {
			t.Fatal(err)
		}
		other := mysqldtest.StartOn(t, root, again, mysqldtest.Options{})
		options[len(options)-1] = other.Socket
		refuse(11, "full.json", "of the server")
		if err := other.Stop(); err != nil {
			t.Fatal(err)
		}
		hbtest.Succeed(t, hb(t, "extract", "--apply", "-C", in("restored"), in("full"), in("inc 1"), in("inc 2")))
		r := mysqldtest.StartOn(t, root, in("restored"), mysqldtest.Options{})
		if got := r.Rows(t, "CHECKSUM TABLE d.t")[0][1]; got != want {
			t.Errorf("checksum %s, want %s", got, want)
		}
		// The server goes on, from before the increment.
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFaultChainLive: merge, extract and extract --apply of a chain that was made under a load
// with DDL, on full disks, and killed at any moment: what they leave is refused, is whole, or
// hb apply goes on with it and comes to the same bytes. A chain of half the increments has
// another end, so it would not be the same.
func TestFaultChainLive(t *testing.T) {
	servers := []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}
	if mysqldtest.Long() {
		servers = all
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		chain := loadedChain(t, root)
		faultChain(t, chain)
		want := filepath.Join(disktest.Memory(t), "applied")
		hbtest.Succeed(t, hb(t, append([]string{"extract", "--apply", "-C", want}, chain...)...))
		t.Run("one pass on a full disk", func(t *testing.T) { restoreFull(t, chain, want) })
		t.Run("one pass killed", func(t *testing.T) { restoreKilled(t, chain, want) })
	})
}

// loadedChain makes a full backup and two increments of a server that is written to.
func loadedChain(t *testing.T, root *mysqldtest.Root) (chain []string) {
	t.Helper()
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{Rate: 60, DDLRate: 20, MaxBlob: 30000})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	workload.During(t, load, func() {
		for i := range 3 {
			archive, options := filepath.Join(dir, fmt.Sprint(i)), []string(nil)
			if i > 0 {
				options = []string{"--since", chain[i-1]}
			}
			backupTo(t, s, archive, options...)
			chain = append(chain, archive)
		}
	})
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	return chain
}

// viaAddress makes an increment since an archive at an address, whose signature it must not
// keep anywhere, while connections break off; and none if the archive is replaced while hb
// reads it.
func viaAddress(t *testing.T, archive string, options []string) {
	t.Helper()
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	remote := remotetest.New(t, data)
	remote.Cut = 64 << 10
	info := filepath.Join(t.TempDir(), "info")
	for _, since := range [][]string{{"--since", remote.Address("full.hb")}, {"--since=" + remote.Address("full.hb")}} {
		cmd := hb(t, append(append(append([]string{"backup"}, options...), "--info-file", info), since...)...)
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+remote.Certificate(t))
		r := hbtest.Succeed(t, cmd)
		status, err := os.ReadFile(info)
		if err != nil || strings.Contains(r.Stdout+r.Stderr+string(status), remotetest.Secret) || !strings.Contains(r.Stdout, "full.hb") {
			t.Errorf("%v: the signature is kept, or the command is not: %s", err, status)
		}
	}
	if n := len(remote.Requests); n < 6 {
		t.Errorf("%d requests for two increments, although connections break off", n)
	}
	remote.Before = func(request int) { remote.Tag = fmt.Sprint(request) }
	cmd := hb(t, append(append([]string{"backup"}, options...), "--since", remote.Address("full.hb"))...)
	cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+remote.Certificate(t))
	if r := hbtest.Finish(t, cmd); r.Code != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, "was replaced while it was read") {
		t.Errorf("since an archive that is replaced: exit code %d, %d bytes: %s", r.Code, len(r.Stdout), r.Stderr)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// maxIncrement is what an incremental backup may use of memory, with 8 readers.
const maxIncrement = 256 << 20

// TestIncrementMemory: however many pages of however many files changed, an incremental
// backup uses little memory: of eight files it reads at a time, more pages have changed
// than the list of one cluster takes, which precedes them.
func TestIncrementMemory(t *testing.T) {
	const files, pages = 8, 4400
	root := mysqldtest.Need(t, mysqldtest.MariaDB1011)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-buffer-pool-size=1G", "innodb-log-file-size=1G", "innodb-flush-log-at-trx-commit=0", "innodb-io-capacity=20000"}})
	s.Exec(t, "CREATE DATABASE d")
	for i := range files {
		s.Exec(t, fmt.Sprintf("CREATE TABLE d.t%d (id INT PRIMARY KEY, b VARCHAR(14000)) ENGINE=InnoDB CHARSET latin1", i))
	}
	dir := t.TempDir()
	options := []string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket, "--parallel=8", "--quiet"}
	base := filepath.Join(dir, "base.json")
	cmd := hb(t, append(options, "--manifest-out", base)...)
	cmd.Stdout = discard(t)
	hbtest.Succeed(t, cmd)
	for i := range files {
		s.Exec(t, fmt.Sprintf("INSERT INTO d.t%d SELECT seq, REPEAT('b', 14000) FROM d.seq_1_to_%d", i, pages))
	}
	s.WriteOut(t)
	archive := filepath.Join(dir, "archive")
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	peak := filepath.Join(dir, "peak")
	cmd = exec.Command(self, append([]string{built}, append(options, "--since", base)...)...)
	cmd.Env, cmd.Stdout = append(os.Environ(), asPeak+"="+peak), out
	hbtest.Succeed(t, cmd)
	text, err := os.ReadFile(peak)
	if err != nil {
		t.Fatal(err)
	}
	var most int64
	if _, err := fmt.Sscan(string(text), &most); err != nil || most > maxIncrement {
		t.Errorf("it used %d MiB, %v", most>>20, err)
	}
	if n := size(t, archive); n < files*pages*16<<10 {
		t.Errorf("the increment has %d bytes: not all pages", n)
	}
	t.Logf("%d MiB of memory for an increment of %d MiB", most>>20, size(t, archive)>>20)
}

// discard is a file that nobody reads.
func discard(t *testing.T) io.Writer {
	t.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
