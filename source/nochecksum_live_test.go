package source_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hb/sink/verify"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/xbstream/innodb"
)

// TestNoChecksums backs servers up under load whose pages have no checksums. The
// copy obeys the load's rules; manifest and hb verify count the pages that
// nothing vouches for.
func TestNoChecksums(t *testing.T) {
	algorithms := map[string]string{mysqldtest.MySQL56: "none", mysqldtest.MySQL57: "strict_none", mysqldtest.MySQL97: "none", mysqldtest.MariaDB105: "none"}
	mysqldtest.Each(t, []string{mysqldtest.MySQL56, mysqldtest.MySQL57, mysqldtest.MySQL97, mysqldtest.MariaDB105}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Init: []string{"innodb-checksum-algorithm=" + algorithms[root.Name]}})
		load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 5})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		archive := filepath.Join(dir, "archive")
		var result *source.Result
		workload.During(t, load, func() {
			time.Sleep(time.Second)
			result = backup(t, s, archive)
		})
		m := &result.Manifest
		if m.UnsummedPages == 0 || m.UnprovenPages == 0 || m.UnprovenPages == m.UnsummedPages || !strings.Contains(strings.Join(m.Warnings, "\n"), "have no checksum") {
			t.Errorf("%d pages without a checksum, %d unproven: %q", m.UnsummedPages, m.UnprovenPages, m.Warnings)
		}
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v, err := verify.Archive(t.Context(), f, verify.Options{Tmpdir: dir})
		if err != nil {
			t.Fatal(err)
		}
		// The backup does not look at the doublewrite area, two extents, and verify
		// counts pages before it knows where that is.
		if more := v.Tally.Unsummed - m.UnsummedPages; more < 0 || more > 128 || v.Tally.Unproven != m.UnprovenPages {
			t.Errorf("verify counts %+v, the manifest %d and %d", v.Tally, m.UnsummedPages, m.UnprovenPages)
		}
		target := filepath.Join(dir, "restored")
		restoreByHB(t, root, archive, target)
		workload.VerifyCopy(t, s, target, false)
	})
}

// TestTornPage: a page that was half written when it was read, and no checksum to
// tell, fails the backup.
func TestTornPage(t *testing.T) {
	for name, test := range map[string]struct{ server, algorithm, options string }{
		"no checksum":                {mysqldtest.MySQL57, "none", ""},
		"no checksum, MariaDB":       {mysqldtest.MariaDB105, "none", "ROW_FORMAT=REDUNDANT"},
		"compressed, not full_crc32": {mysqldtest.MariaDB1011, "crc32", "PAGE_COMPRESSED=1"},
	} {
		t.Run(name, func(t *testing.T) {
			root := mysqldtest.Need(t, test.server)
			init := []string{"innodb-checksum-algorithm=" + test.algorithm}
			s := mysqldtest.Start(t, root, mysqldtest.Options{Init: init})
			s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY, v VARBINARY(400)) ENGINE=InnoDB "+test.options)
			path := filepath.Join(s.Datadir, "d", "t.ibd")
			var images [2][]byte
			for i, q := range []string{"REPLACE INTO d.t VALUES (%)", "UPDATE d.t SET v = REVERSE(v)"} {
				for n := range 500 {
					if i == 0 {
						s.Exec(t, strings.Replace(q, "%", strings.ReplaceAll("#, CONCAT(SHA2(#, 512), SHA2(#+500, 512), SHA2(#+1000, 512))", "#", strconv.Itoa(n)), 1))
					}
				}
				if i == 1 {
					s.Exec(t, q)
				}
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
				var err error
				if images[i], err = os.ReadFile(path); err != nil {
					t.Fatal(err)
				}
				s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Init: init, Config: []string{"innodb-buffer-pool-load-at-startup=OFF"}})
			}
			const size, sector = 16 << 10, 4096
			older, newer := images[0], images[1]
			at := len(older) - size
			for bytes.Equal(older[at+sector:at+size], newer[at+sector:at+size]) || innodb.HeaderType(newer[at:]) == innodb.TypeAllocated {
				at -= size
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			torn := bytes.Clone(newer)
			copy(torn[at+sector:at+size], older[at+sector:at+size])
			if err := os.WriteFile(path, torn, 0o644); err != nil {
				t.Fatal(err)
			}
			s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Init: init, Config: []string{"innodb-buffer-pool-load-at-startup=OFF"}})
			_, err := hooked(t, s, io.Discard, source.Options{})
			if page, ok := errors.AsType[*innodb.PageError](err); !ok || int(page.No) != at/size {
				t.Errorf("page %d of %s is torn: %v", at/size, path, err)
			}
		})
	}
}
