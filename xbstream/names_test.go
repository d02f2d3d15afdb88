package xbstream

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"
)

// TestNames compares Names with a map, through names that are put, put again, deleted,
// and put after that.
func TestNames(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names, want := NewNames[int](), make(map[string]int)
	most := 0
	for i := range 200_000 {
		name := fmt.Sprint(random.IntN(20_000))
		if phase := i / 20_000 % 2; random.IntN(10) < 3+5*phase {
			names.Delete(name)
			delete(want, name)
		} else {
			names.Put(name, i)
			want[name] = i
		}
		if got, there := names.Get(name); there != names.Has(name) || got != want[name] || names.Len() != len(want) {
			t.Fatalf("after step %d %s is %d, %v of %d names, want %d of %d", i, name, got, there, names.Len(), want[name], len(want))
		}
		most = max(most, len(want))
	}
	if got := maps.Collect(names.All()); !maps.Equal(got, want) {
		t.Errorf("%d names, want %d, or others", len(got), len(want))
	}
	if names.Entries() > most {
		t.Errorf("%d entries for at most %d names", names.Entries(), most)
	}
	for name := range names.All() {
		names.Delete(name)
	}
	if names.Len() != 0 || names.Has("1") {
		t.Errorf("%d names are left", names.Len())
	}
}

// TestNamesReuse: names that come and go take no more space than those that are there.
func TestNamesReuse(t *testing.T) {
	const most = 1000
	names := NewNames[int]()
	for i := range 200_000 {
		names.Put(fmt.Sprint(i), i)
		names.Delete(fmt.Sprint(i - most))
	}
	for i := range 200_000 {
		if value, there := names.Get(fmt.Sprint(i)); there != (i >= 200_000-most) || there && value != i {
			t.Fatalf("%d is %d, %v", i, value, there)
		}
	}
	if names.Len() != most || names.Entries() > most+1 || len(names.slots) > 4*most {
		t.Errorf("%d names, %d entries and %d slots for %d names", names.Len(), names.Entries(), len(names.slots), most)
	}
}

// TestNamesMemory: a name takes at most 8 bytes besides its entry, and some for blocks.
func TestNamesMemory(t *testing.T) {
	const n = 1_000_000
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	names := NewNames[struct{}]()
	for _, name := range list {
		names.Put(name, struct{}{})
	}
	if took := heap() - before; took > n*(16+10) { // 16 is a string
		t.Errorf("%d names take %d bytes", n, took)
	}
	runtime.KeepAlive(names)
	runtime.KeepAlive(list)
}
