package recipes

import (
	"slices"
	"sync"
	"testing"
)

// leave passes over what stands under a heading, because it is for other servers
// than this run's. One of the page's runs must do it.
func (r *recipe) leave(section string) {
	r.t.Helper()
	r.take(section)
	r.left = append(r.left, section)
}

// onAll does what stands under a heading in several shells, on one after the
// other.
func (r *recipe) onAll(section string, shells ...*shell) {
	r.t.Helper()
	blocks := r.take(section)
	for _, s := range shells {
		if _, err := r.do(s, blocks); err != nil {
			r.t.Fatal(err)
		}
	}
}

// runs notes the runs of pages that came to their end.
var runs = struct {
	sync.Mutex
	of map[string][]*recipe
}{of: map[string][]*recipe{}}

// noteRun notes a run that is complete.
func noteRun(r *recipe) {
	runs.Lock()
	defer runs.Unlock()
	runs.of[r.page] = append(runs.of[r.page], r)
}

// checkLeft fails if all runs of a page left the same section.
func checkLeft(t *testing.T) {
	runs.Lock()
	defer runs.Unlock()
	for page, of := range runs.of {
		if len(of) < len(tests[page].servers) {
			continue // not all were asked for
		}
		for _, section := range of[0].left {
			if !slices.ContainsFunc(of[1:], func(r *recipe) bool { return !slices.Contains(r.left, section) }) {
				t.Errorf("%s: nothing runs %q", page, section)
			}
		}
	}
}
