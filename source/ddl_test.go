package source

import (
	"bytes"
	"io"
	"maps"
	"slices"
	"testing"

	"hb/source/mysqld"
	"hb/source/pages"
	"hb/source/sourcetest"
	"hb/source/spool"
	"hb/source/stage"
	"hb/source/subject"
	"hb/stream/disk"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/xbtest"
)

// ddlCopier returns a copier into an archive in memory.
func ddlCopier(w *xbstream.Writer) *pages.Copier {
	return &pages.Copier{Disk: disk.OS, Create: func(name string) (io.WriteCloser, error) { return w.Create(name) },
		Registry: pages.NewRegistry(), PageSize: 16 << 10, Parallel: 2}
}

// ddlCase is a change between the copy and its end, and the fix-ups for it.
type ddlCase struct {
	name   string
	change func(t *testing.T, d *sourcetest.Dir)
	copied map[string]innodb.SpaceID // what the second round adds
	fix    map[string]string
}

var ddlCases = []ddlCase{
	{"nothing", func(*testing.T, *sourcetest.Dir) {}, nil, map[string]string{}},
	{"rename", func(_ *testing.T, d *sourcetest.Dir) { d.Rename("db/a.ibd", "db/c.ibd") }, nil,
		map[string]string{"db/a.ren": "db/c"}},
	{"rename across databases", func(_ *testing.T, d *sourcetest.Dir) { d.Rename("db/a.ibd", "other/a.ibd") }, nil,
		map[string]string{"db/a.ren": "other/a"}},
	{"swap", func(_ *testing.T, d *sourcetest.Dir) {
		d.Rename("db/a.ibd", "db/x.ibd")
		d.Rename("db/b.ibd", "db/a.ibd")
		d.Rename("db/x.ibd", "db/b.ibd")
	}, nil, map[string]string{"db/a.ren": "db/b", "db/b.ren": "db/a"}},
	{"drop", func(_ *testing.T, d *sourcetest.Dir) { d.Remove("db/a.ibd") }, nil, map[string]string{"db/a.del": ""}},
	{"create", func(t *testing.T, d *sourcetest.Dir) { d.Write("db/c.ibd", innodbtest.Random(9, 2)) },
		map[string]innodb.SpaceID{"db/c.ibd": 9}, map[string]string{}},
	{"truncate", func(t *testing.T, d *sourcetest.Dir) {
		d.Write("db/new.ibd", innodbtest.Random(9, 2))
		d.Rename("db/new.ibd", "db/a.ibd")
	}, map[string]innodb.SpaceID{"db/a#hb#9.ibd": 9}, map[string]string{"db/a.del": "", "db/a#hb#9.ren": "db/a"}},
	{"drop and create, then rename", func(t *testing.T, d *sourcetest.Dir) {
		d.Remove("db/a.ibd")
		d.Write("db/a.ibd", innodbtest.Random(9, 2))
		d.Rename("db/b.ibd", "db/c.ibd")
	}, map[string]innodb.SpaceID{"db/a#hb#9.ibd": 9},
		map[string]string{"db/a.del": "", "db/a#hb#9.ren": "db/a", "db/b.ren": "db/c"}},
	{"import over the same file", func(t *testing.T, d *sourcetest.Dir) { d.Write("db/a.ibd", innodbtest.Random(9, 2)) },
		map[string]innodb.SpaceID{"db/a#hb#9.ibd": 9}, map[string]string{"db/a.del": "", "db/a#hb#9.ren": "db/a"}},
}

// TestDDLDuringCopy runs each kind of DDL between two looks at the databases.
func TestDDLDuringCopy(t *testing.T) {
	for _, test := range ddlCases {
		t.Run(test.name, func(t *testing.T) {
			d := sourcetest.NewDir(t)
			d.Write("db/a.ibd", innodbtest.Random(1, 2))
			d.Write("db/b.ibd", innodbtest.Random(2, 2))
			d.Write("other/db.opt", nil)
			b := &backup{Subject: &subject.Subject{Server: &mysqld.Server{Flavor: mysqld.MariaDB}, Layout: d.Layout, Inventory: pages.NewInventory(disk.OS, 16<<10)}}
			b.family = &mariadbBackup{backup: b}
			var out bytes.Buffer
			w := xbstream.NewWriter(&out)
			b.copier = ddlCopier(w)
			b.registry = b.copier.Registry
			if _, err := b.copyNew(t.Context()); err != nil {
				t.Fatal(err)
			}
			d.Tick()
			test.change(t, d)
			if n, err := b.copyNew(t.Context()); n != len(test.copied) || err != nil {
				t.Errorf("copied %d more: %v", n, err)
			}
			if n, err := b.copyNew(t.Context()); n != 0 || err != nil {
				t.Errorf("copied %d again: %v", n, err)
			}
			look, err := b.Inventory.Look(t.Context(), d.List().Tablespaces)
			if err != nil {
				t.Fatal(err)
			}
			end, err := pages.Settle(look, nil, pages.Rules{LogsCreation: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := b.registry.Fixups(end.Now); !maps.Equal(got, test.fix) {
				t.Errorf("fix-ups = %q, want %q", got, test.fix)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			files := xbtest.ReadAll(t, &out)
			for name, id := range test.copied {
				if s, err := innodb.ParseSpace(files[name]); err != nil || s.ID != id {
					t.Errorf("%s is tablespace %d (%v), want %d", name, s.ID, err, id)
				}
			}
		})
	}
}

// TestReplaceFixed: what can have no other name in the archive is not copied
// again, unless it is only staged.
func TestReplaceFixed(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("undo001", innodbtest.Random(9, 2))
	c := ddlCopier(xbstream.NewWriter(io.Discard))
	b := &mysql5Backup{mysqlBackup: mysqlBackup{backup: &backup{Subject: &subject.Subject{Server: new(mysqld.Server)}, registry: c.Registry, copier: c, stage: stage.New(disk.OS, spool.New(disk.OS, t.TempDir(), 1<<20))}}}
	all := func(*pages.Copy) bool { return true }
	files := pages.Unopened(d.List().Tablespaces)
	if err := c.CopyFiles(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	if err := b.replace(c.Registry.Discard(all)); err == nil {
		t.Error("an undo tablespace that is in the archive may be copied again")
	}
	c.Registry = pages.NewRegistry()
	b.registry = c.Registry
	b.underStage()
	for range 2 {
		if err := c.CopyFiles(t.Context(), pages.Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
		if staged := slices.Collect(b.stage.Names()); !slices.Equal(staged, []string{"undo001"}) {
			t.Fatalf("staged: %v", staged)
		}
		if err := b.replace(c.Registry.Discard(all)); err != nil {
			t.Error(err)
		}
	}
	system := &pages.Copy{Name: "ibdata1"}
	if err := b.replace([]*pages.Copy{system}); err == nil {
		t.Error("the system tablespace may be copied again")
	}
}
