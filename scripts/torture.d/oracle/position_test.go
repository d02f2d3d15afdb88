package oracle

import "testing"

func TestFoldGTIDs(t *testing.T) {
	got := foldGTIDs([]string{"a:1-7,\nb:3", "a:8", "a:9", "a:10", "a:12", "b:13", "b:14", "a:tag:15", "a:11"})
	if want := "a:1-7,b:3,a:8-10,a:12-12,b:13-14,a:tag:15,a:11-11"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
