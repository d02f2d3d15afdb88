package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"hb/sink/backupdir"
	"hb/source/since"
)

// TestImports: source and sink do not know each other, and what both stand on knows
// neither. Only main prints, through package terminal.
func TestImports(t *testing.T) {
	for _, rule := range []struct{ packages, forbidden string }{
		{"./sink/...", "hb/source"},
		{"./source/...", "hb/sink"},
		{"./xbstream/...", "hb/source"},
		{"./xbstream/...", "hb/sink"},
		{"./stream/...", "hb/source"},
		{"./stream/...", "hb/sink"},
		{"./sink/...", "hb/stream/terminal"},
		{"./source/...", "hb/stream/terminal"},
	} {
		out, err := exec.Command("go", "list", "-f", `{{if not (or (eq .Name "recipes") (eq .Name "main"))}}{{.ImportPath}}: {{join .Deps " "}}{{end}}`, rule.packages).CombinedOutput()
		if err != nil {
			t.Fatalf("go list %s: %v\n%s", rule.packages, err, out)
		}
		if len(strings.Fields(string(out))) < 10 {
			t.Errorf("go list %s: %s", rule.packages, out)
		}
		for line := range strings.Lines(string(out)) {
			for _, dep := range strings.Fields(line)[1:] {
				if dep == rule.forbidden || strings.HasPrefix(dep, rule.forbidden+"/") {
					t.Errorf("%s imports %s", strings.Fields(line)[0], dep)
				}
			}
		}
	}
}

// TestMarks: what source takes for a directory that was not left as hb extract made it is
// what sink leaves there. Neither may import the other.
func TestMarks(t *testing.T) {
	var names []string
	for _, m := range since.Marks {
		names = append(names, m.Name)
	}
	want := []string{backupdir.MarkerName, backupdir.PartialName, backupdir.ApplyingName, backupdir.AppliedName, backupdir.HandedOverName}
	if !slices.Equal(names, want) {
		t.Errorf("source knows %q, and sink leaves %q", names, want)
	}
}
