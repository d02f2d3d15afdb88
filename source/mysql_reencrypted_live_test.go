package source_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"hb/sink/apply"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
)

// TestReencryptedWhileCopied: the server decrypts a general tablespace in place, or encrypts
// it, with a first or another key, while and after hb copies it. The copy is right:
// pages of a key that the server has thrown away are not left in it. The page size is 4 KiB,
// with which page 0 has the key at another place; TestReencryptedDictionary has 16 KiB.
func TestReencryptedWhileCopied(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	ring := filepath.Join(dir, "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: ring, PageSize: 4096})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLESPACE g ADD DATAFILE 'g.ibd' ENCRYPTION='Y'",
		"CREATE TABLE d.a (id INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(1000), KEY(b(50))) TABLESPACE g ENCRYPTION='Y'",
		"SET SESSION cte_max_recursion_depth = 100000",
		"INSERT INTO d.a (b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT REPEAT(SHA2(i, 256), 15) FROM n")
	for range 4 {
		s.Exec(t, "INSERT INTO d.a (b) SELECT CONCAT(REVERSE(b), id) FROM d.a")
	}
	const to = "ALTER TABLESPACE g ENCRYPTION="
	for _, c := range []struct {
		name, before string
		meanwhile    []string
		at           []int
	}{
		{"decrypted", "'Y'", []string{"'N'"}, []int{45, 60}},
		{"encrypted", "'N'", []string{"'Y'"}, []int{45}},
		{"encrypted with another key", "'Y'", []string{"'N'", "'Y'"}, []int{45, 60}},
		{"encrypted for a while", "'N'", []string{"'Y'", "'N'"}, []int{45}},
	} {
		for _, at := range c.at {
			t.Run(fmt.Sprintf("%s/%d", c.name, at), func(t *testing.T) {
				s.Exec(t, to+c.before, "UPDATE d.a SET b = REVERSE(b) WHERE id % 50 = 1")
				archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "target")
				defer os.RemoveAll(target)
				paces := 0
				hookedBackup(t, s, archive, hooks{pace: func(n int) {
					if paces = n; n == at {
						for _, clause := range c.meanwhile {
							s.Exec(t, to+clause, "UPDATE d.a SET b = REVERSE(b) WHERE id % 50 = 2")
						}
					}
				}})
				if paces < at {
					t.Fatalf("the backup ended after %d reads", paces)
				}
				t.Logf("%d reads", paces)
				want := checksums(t, s)
				if r, err := verifyWith(t, archive, verify.Options{Keys: keysOf(t, ring), Replay: true}); err != nil || r.Partial() != nil {
					t.Fatalf("%v, %v", r, err)
				}
				unpack(t, archive, target)
				if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: keysOf(t, ring)}); err != nil {
					t.Fatal(err)
				}
				copied, err := mysqldtest.LaunchOn(t.Context(), root, target, mysqldtest.Options{Dir: filepath.Join(dir, "server of "+t.Name()), Keyring: ring, Init: s.Init})
				if err != nil {
					t.Fatal(err)
				}
				if c := copied.Rows(t, "CHECK TABLE d.a EXTENDED"); c[0][3] != "OK" {
					t.Errorf("%v", c)
				}
				if got := checksums(t, copied); !maps.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
				if err := copied.Kill(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestReencryptedDictionary is TestReencryptedWhileCopied for mysql.ibd, without which no server
// starts.
func TestReencryptedDictionary(t *testing.T) {
	mysqldtest.Concurrent(t)
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	ring := filepath.Join(dir, "keyring")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Keyring: ring})
	numbers(t, s)
	fill(t, s, "d.a", "ENCRYPTION='Y'")
	const to = "ALTER TABLESPACE mysql ENCRYPTION="
	for i, clauses := range [][]string{{"'N'", "'Y'"}, {"'Y'", "'N'"}, {"'Y'", "'N'", "'Y'"}} {
		s.Exec(t, to+clauses[0])
		archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, fmt.Sprint("target", i))
		paces := 0
		hookedBackup(t, s, archive, hooks{pace: func(n int) {
			if paces = n; n == 12 {
				for _, clause := range clauses[1:] {
					s.Exec(t, to+clause, fmt.Sprintf("CREATE TABLE d.t%d%d (a INT)", i, len(clause)), fmt.Sprintf("DROP TABLE d.t%d%d", i, len(clause)))
				}
			}
		}})
		if t.Logf("%d reads", paces); paces < 20 {
			t.Fatal("the backup was over too soon")
		}
		if r, err := verifyWith(t, archive, verify.Options{Keys: keysOf(t, ring), Replay: true}); err != nil || r.Partial() != nil {
			t.Fatalf("%q: %v, %v", clauses, r, err)
		}
		want := checksums(t, s)
		unpack(t, archive, target)
		if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test", Keys: keysOf(t, ring)}); err != nil {
			t.Fatalf("%q: %v", clauses, err)
		}
		copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Keyring: ring})
		if got := checksums(t, copied); !maps.Equal(got, want) {
			t.Errorf("%q: %v, want %v", clauses, got, want)
		}
		if err := copied.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
