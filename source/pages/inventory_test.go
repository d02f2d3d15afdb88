package pages

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hb/source/datadir"
	"hb/source/redo"
	"hb/source/sourcetest"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// TestSettle: what the redo speaks of must be there, and files that it does not
// speak of must say themselves what they are.
func TestSettle(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/known.ibd", innodbtest.Random(1, 2))
	written := make([]byte, 64<<10) // behind page 0, which comes last
	written[16<<10+38] = 1
	d.Write("db/young.ibd", written)
	look, err := NewInventory(disk.OS, 16<<10).Look(t.Context(), d.List().Tablespaces)
	if err != nil {
		t.Fatal(err)
	}
	look.LSN = 1000
	young := &redo.FileState{Path: "./db/young.ibd", Created: 1000}
	end, err := Settle(look, map[innodb.SpaceID]*redo.FileState{
		5: young, 1: {Path: "./db/known.ibd"}, 7: {Path: "./db/dropped.ibd", Deleted: true}, 8: {Path: "./db/#sql-alter-1.ibd"},
		6:   {Path: "./db/FTS_0000000000000010_CONFIG.ibd", Created: 1001}, // and not there: by an ALTER TABLE that cannot commit
		127: {Changed: true},                                               // an undo tablespace
	}, Rules{LogsCreation: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(end.Stubs) != 1 || end.Stubs[0].Space.ID != 5 || len(end.Now) != 2 || len(end.Unknown) != 0 {
		t.Errorf("settlement = %+v", end)
	}
	young.Created = 1001
	end, err = Settle(look, map[innodb.SpaceID]*redo.FileState{5: young}, Rules{LogsCreation: true})
	if err != nil || len(end.Stubs) != 0 || len(end.Now) != 1 || len(end.Unknown) != 0 {
		t.Errorf("a tablespace that is created under the lock: settlement = %+v, error = %v", end, err)
	}
	if _, err := Settle(look, map[innodb.SpaceID]*redo.FileState{5: {Path: "./db/young.ibd"}}, Rules{LogsCreation: true}); err == nil || !strings.Contains(err.Error(), "page 0 is empty") {
		t.Errorf("a file of zeros that the redo log names and does not create: error = %v", err)
	}
	end, err = Settle(look, nil, Rules{LogsCreation: true})
	if err != nil || len(end.Unknown) != 1 || end.Unknown[0].Name != "db/young.ibd" || len(end.Now) != 1 {
		t.Errorf("a file of zeros that the redo does not know: settlement = %+v, error = %v", end, err)
	}
	_, err = Settle(look, map[innodb.SpaceID]*redo.FileState{5: young, 6: {Path: "./db/lost.ibd"}}, Rules{LogsCreation: true})
	if err == nil || !strings.Contains(err.Error(), "tablespace 6 (db/lost.ibd)") {
		t.Errorf("a tablespace that is only in the redo: error = %v", err)
	}
}

// TestSettleNamed: a file that MariaDB's redo log only names, and that the server does
// not list, need not be there. Neither may be missing, nor may the list.
func TestSettleNamed(t *testing.T) {
	none := map[innodb.SpaceID]bool{}
	for _, c := range []struct {
		name    string
		changed bool
		listed  map[innodb.SpaceID]bool
		ok      bool
	}{
		{name: "named, not listed", listed: none, ok: true},
		{name: "changed, not listed", changed: true, listed: none},
		{name: "named, listed", listed: map[innodb.SpaceID]bool{6: true}},
		{name: "no list"},
	} {
		log := map[innodb.SpaceID]*redo.FileState{6: {Path: "./db/lost.ibd", Changed: c.changed}}
		if _, err := Settle(Found{}, log, Rules{LogsCreation: true, Listed: c.listed}); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := Settle(Found{}, log, Rules{}); err == nil {
			t.Errorf("%s: accepted of MySQL", c.name)
		}
	}
}

// TestSettleScope: a tablespace is out of the scope of a backup by the name of a file with its
// id, or by that of one that the redo makes; and is lost if there is neither.
func TestSettleScope(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/in.ibd", innodbtest.Random(1, 2))
	d.Write("out/moved.ibd", innodbtest.Random(2, 2))
	d.Write("out/young.ibd", make([]byte, 64<<10))
	v := NewInventory(disk.OS, 16<<10)
	var in, out []datadir.File
	for _, info := range d.List().Tablespaces {
		if strings.HasPrefix(info.Name, "db/") {
			in = append(in, info)
		} else {
			out = append(out, info)
		}
	}
	look, err := v.Look(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	left, err := v.Look(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	look.Left, look.LeftDeferred, look.LSN = left.Files, left.Deferred, 1000
	has := func(name string) bool { return strings.HasPrefix(name, "db/") }
	log := map[innodb.SpaceID]*redo.FileState{
		1: {Path: "./db/in.ibd"}, 2: {Path: "./out/moved.ibd"}, 3: {Path: "./out/young.ibd", Created: 900},
		4: {Path: "./out/FTS_0000000000000010_CONFIG.ibd", Created: 1001}, 5: {Path: "./db/FTS_0000000000000011_CONFIG.ibd", Created: 1001}, 6: {Path: "./out/gone.ibd", Deleted: true},
	}
	end, err := Settle(look, log, Rules{LogsCreation: true, Has: has})
	slices.Sort(end.Left)
	if err != nil || !slices.Equal(end.Left, []innodb.SpaceID{2, 3, 4}) || len(end.Now) != 1 || len(end.Stubs) != 0 {
		t.Errorf("%+v, %v", end, err)
	}
	for what, change := range map[string]func(map[innodb.SpaceID]*redo.FileState){
		"out of the scope by its name, and without a file": func(log map[innodb.SpaceID]*redo.FileState) {
			log[7] = &redo.FileState{Path: "./out/lost.ibd", Changed: true}
		},
		"in the scope, and without a file": func(log map[innodb.SpaceID]*redo.FileState) {
			log[7] = &redo.FileState{Path: "./db/lost.ibd", Changed: true}
		},
		"moved by somebody": func(log map[innodb.SpaceID]*redo.FileState) { log[2] = &redo.FileState{Path: "./db/moved.ibd"} },
	} {
		changed := maps.Clone(log)
		change(changed)
		if _, err := Settle(look, changed, Rules{LogsCreation: true, Has: has}); err == nil {
			t.Errorf("%s: accepted", what)
		} else {
			t.Log(err)
		}
	}
}

// TestYoung: a file whose page 0 is empty, and that the redo log does not know,
// is being created, or damaged.
func TestYoung(t *testing.T) {
	for name, test := range map[string]struct {
		change func(d *sourcetest.Dir)
		bad    bool
	}{
		"stays empty": {func(*sourcetest.Dir) {}, true},
		"is written":  {func(d *sourcetest.Dir) { d.Write("db/young.ibd", innodbtest.Random(1, 2)) }, false},
		"goes":        {func(d *sourcetest.Dir) { d.Remove("db/young.ibd") }, false},
	} {
		t.Run(name, inBubble(func(t *testing.T) {
			d := sourcetest.NewDir(t)
			d.Write("db/young.ibd", make([]byte, 64<<10))
			v := NewInventory(disk.OS, 16<<10)
			look, err := v.Look(t.Context(), d.List().Tablespaces)
			if err != nil || len(look.Deferred) != 1 {
				t.Fatalf("%+v, %v", look, err)
			}
			var wg sync.WaitGroup
			wg.Go(func() { time.Sleep(10 * time.Millisecond); test.change(d) })
			err = v.Young(t.Context(), look.Deferred[0])
			wg.Wait()
			if (err != nil) != test.bad {
				t.Errorf("error = %v", err)
			}
		}))
	}
}

// inBubble is a test whose clock moves on when all of its goroutines wait.
func inBubble(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

func TestDuplicateSpaces(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/a.ibd", innodbtest.Random(1, 2))
	d.Write("db/copy of a.ibd", innodbtest.Random(1, 2))
	look, err := NewInventory(disk.OS, 16<<10).Look(t.Context(), d.List().Tablespaces)
	if err != nil {
		t.Fatal(err)
	}
	err = look.Unique()
	var duplicate *DuplicateError
	if !errors.As(err, &duplicate) {
		t.Errorf("error = %v, want a DuplicateError", err)
	}
}

// TestImportedInOneStep: a file that becomes another tablespace while its time stamps
// stand still, as they do for some milliseconds, is looked at again.
func TestImportedInOneStep(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/t.ibd", innodbtest.Random(7, 2))
	v := NewInventory(disk.OS, 16<<10)
	first := d.List().Tablespaces
	for _, id := range []innodb.SpaceID{7, 8} {
		f, err := os.OpenFile(d.Path("db/t.ibd"), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(innodbtest.Random(id, 2), 0)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		info := d.List().Tablespaces[0]
		info.Modified, info.Changed = first[0].Modified, first[0].Changed
		for id, old := range v.known {
			old.File = info
			v.known[id] = old
		}
		look, err := v.Look(t.Context(), []datadir.File{info})
		if err != nil || len(look.Files) != 1 || look.Files[0].Space.ID != id {
			t.Errorf("tablespace %d was found as %+v, %v", id, look.Files, err)
		}
	}
}

// TestSettleMySQL: a tablespace of the redo must be there.
func TestSettleMySQL(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/young.ibd", make([]byte, 64<<10))
	look, err := NewInventory(disk.OS, 16<<10).Look(t.Context(), d.List().Tablespaces)
	if err != nil {
		t.Fatal(err)
	}
	young := map[innodb.SpaceID]*redo.FileState{5: {Path: "./db/young.ibd", Created: 1}}
	if _, err := Settle(look, young, Rules{}); err == nil {
		t.Error("a file without page 0 was accepted")
	}
	// An index that is built in the system tablespace leaves such a state.
	if _, err := Settle(Found{}, map[innodb.SpaceID]*redo.FileState{0: {Unlogged: 7}}, Rules{}); err != nil {
		t.Errorf("the system tablespace has no file: %v", err)
	}
	if _, err := Settle(Found{}, young, Rules{}); err == nil {
		t.Error("a tablespace that is only in the redo was accepted")
	}
}

// TestSettleEmpty: a file without a byte that the redo log does not know is no
// damage, whatever the server.
func TestSettleEmpty(t *testing.T) {
	look := Found{Deferred: []datadir.File{{Name: "db/e.ibd"}}}
	for _, mariadb := range []bool{true, false} {
		s, err := Settle(look, nil, Rules{LogsCreation: mariadb})
		if err != nil || len(s.Empty) != 1 || len(s.Unknown) != 0 || len(s.Now) != 0 {
			t.Errorf("MariaDB %v: %+v, %v", mariadb, s, err)
		}
	}
}
