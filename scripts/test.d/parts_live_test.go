package testd

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/stream/ranges"
	"hb/stream/remote/remotetest"
)

// TestParts: of the archive of a real server, in every form, one table is extracted from a
// file, from a pipe, and from a server that breaks connections off. It is what the whole
// archive has, and hb reads no more than the ends of the file, the table, and the blocks
// of the stages that the table is in.
func TestParts(t *testing.T) {
	keygen := mysqldtest.Program(t, "age-keygen")
	servers := []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}
	if mysqldtest.Long() {
		servers = append(append([]string(nil), mysqldtest.MariaDB...), mysqldtest.MySQL...)
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		s.Exec(t, "CREATE DATABASE d")
		digits := "CONCAT(" + strings.Repeat("SHA2(RAND(), 256), ", 8) + "'')"
		for _, table := range []string{"small", "large"} {
			s.Exec(t, "CREATE TABLE d."+table+" (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(600)) ENGINE=InnoDB",
				"INSERT INTO d."+table+" (v) VALUES ("+digits+")")
		}
		for i := range 15 { // doubled each time
			if i < 11 {
				s.Exec(t, "INSERT INTO d.small (v) SELECT "+digits+" FROM d.small")
			}
			s.Exec(t, "INSERT INTO d.large (v) SELECT "+digits+" FROM d.large")
		}
		s.WriteOut(t)
		dir := t.TempDir()
		key := filepath.Join(dir, "key")
		recipient := regexp.MustCompile("age1[0-9a-z]+").FindString(hbtest.Succeed(t, exec.Command(keygen, "-o", key)).Stderr)
		for name, args := range map[string][]string{
			"plain": nil, "zstd": {"--compress"}, "age": {"--encrypt-to", recipient}, "both": {"--compress", "--encrypt-to", recipient},
		} {
			p := &partsOf{t, name, key, filepath.Join(dir, name+".hb")}
			archive := hbtest.Succeed(t, hb(t, append([]string{"backup", "--no-defaults", "-u", "root", "-S", s.Socket}, args...)...)).Stdout
			if err := os.WriteFile(p.archive, []byte(archive), 0o600); err != nil {
				t.Fatal(err)
			}
			p.compare(filepath.Join(dir, name))
		}
	})
}

// partsOf is an archive of TestParts.
type partsOf struct {
	*testing.T
	name, key, archive string
}

// compare extracts all of the archive and parts of it below dir.
func (p *partsOf) compare(dir string) {
	p.Helper()
	b, err := os.ReadFile(p.archive)
	if err != nil {
		p.Fatal(err)
	}
	remote := remotetest.New(p, b)
	run := func(in []byte, args ...string) hbtest.Result {
		p.Helper()
		cmd := hb(p.T, append([]string{"--log-format", "json", args[0], "-i", p.key}, args[1:]...)...)
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+remote.Certificate(p))
		if in != nil {
			cmd.Stdin = bytes.NewReader(in)
		}
		return hbtest.Succeed(p.T, cmd)
	}
	run(nil, "extract", "-C", dir, p.archive)
	all := disktest.ReadTree(p, dir)
	want := map[string]string{}
	for path, content := range all {
		if strings.HasPrefix(path, "d/small.") {
			want[path] = content
		}
	}
	size := int64(len(want["d/small.ibd"]))
	if size < 1<<20 {
		p.Fatalf("the table has %d bytes", size)
	}
	remote.Cut = 8 << 20
	for i, from := range []struct {
		in      []byte
		archive []string
	}{{nil, []string{p.archive}}, {b, nil}, {nil, []string{remote.Address("backup.hb")}}} {
		target := fmt.Sprint(dir, "-", i)
		r := run(from.in, append([]string{"extract", "--files", "d/small.*", "-C", target}, from.archive...)...)
		got := disktest.ReadTree(p, target)
		delete(got, "hb-partial")
		if !maps.Equal(got, want) {
			p.Errorf("%s, way %d: %d files, want %d", p.name, i, len(got), len(want))
		}
		read := bytesRead(p.T, r.Stderr)
		p.Logf("%s, way %d: %d bytes read of %d for a table of %d", p.name, i, read, len(b), size)
		if most := p.most(int64(len(b)), size); i != 1 && read > most {
			p.Errorf("%s, way %d: more than %d", p.name, i, most)
		}
	}
	if byIndex, whole := run(nil, "list", p.archive).Stdout, run(b, "list").Stdout; byIndex != whole || strings.Count(whole, "\n") != len(all) {
		p.Errorf("%s: by its index, it has\n%s\nand as a whole\n%s", p.name, byIndex, whole)
	}
	run(nil, "verify", p.archive)
}

// most is how many bytes may be read for a table of a size: both ends of the archive;
// the chunks of the table, which have 1 MiB, and a gap before each that costs less to
// read than another request; and what stages add to the borders of each.
func (p *partsOf) most(archive, size int64) int64 {
	const (
		chunk, gap       = 1<<20 + 100, 512 << 10
		ageBlock, zBlock = 2 * (64<<10 + 16), 2 * (4 << 20)
	)
	chunks := size/(1<<20) + 1
	border := map[string]int64{"plain": 0, "age": ageBlock, "zstd": zBlock, "both": ageBlock + zBlock}[p.name]
	return ranges.HeadSize + ranges.TailSize(archive) + chunks*(chunk+gap+border)
}
