package testd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// ended runs hb with JSON messages, which must be as they are documented, and returns the
// last one, which must have the exit code that the process has.
func ended(t *testing.T, stdout string, args ...string) hbtest.Message {
	t.Helper()
	cmd := hb(t, append(args, "--log-format=json")...)
	if stdout != "" {
		out, err := os.Create(stdout)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout = out
	}
	r := hbtest.Finish(t, cmd)
	list := hbtest.Messages(t, r.Stderr)
	if len(list) == 0 {
		t.Fatalf("%v says nothing", args)
	}
	end := list[len(list)-1]
	if end["exit_code"] != json.Number(fmt.Sprint(r.Code)) {
		t.Errorf("%v: exit code %d: %v", args, r.Code, end)
	}
	if start := list[0]; end["command"] != nil && (start["event"] != "start" || start["command"] != args[0]) {
		t.Errorf("%v begins with %v", args, start)
	}
	return end
}

// TestJSONMessages: every command writes messages for programs when it begins and
// ends, well or not, as documented. All that know a position have the server's.
func TestJSONMessages(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		s := filled(t, root, mysqldtest.Options{Binlog: true})
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		account := []string{"--no-defaults", "-u", "root", "-S", s.Socket}
		archive := at("a.hb")
		backup := ended(t, archive, append([]string{"backup"}, account...)...)
		position, err := s.BinlogPosition(t.Context()) // hb has rotated the log
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(archive)
		if err != nil {
			t.Fatal(err)
		}
		if backup["bytes"] != json.Number(fmt.Sprint(st.Size())) {
			t.Errorf("the archive has %d bytes: %v", st.Size(), backup)
		}
		r := hbtest.Succeed(t, hb(t, "list", "--json", archive))
		hbtest.CheckObject(t, "list", []byte(r.Stdout))
		check := append([]string{"check", "--rate-interval=10ms"}, account...)
		if end := ended(t, "", check...); end["command"] != "check" {
			t.Errorf("check: %v", end)
		}
		ended(t, "", append([]string{"backup", "--estimate"}, account...)...)
		for _, test := range []struct {
			args     []string
			position bool
			keys     string // that must be there
		}{
			{[]string{"list", archive}, true, "files bytes server created"},
			{[]string{"verify", archive}, true, "files bytes pages server"},
			{[]string{"verify", "--replay", archive}, true, "recovered_pages"},
			{[]string{"extract", "-C", at("dir"), archive}, true, "files bytes server"},
			{[]string{"extract", "--apply", "-C", at("applied"), archive}, true, "files bytes recovered_pages"},
			{[]string{"verify", at("dir")}, true, "pages"},
			{[]string{"apply", at("dir")}, true, "recovered_pages already_applied"},
			{[]string{"apply", at("dir")}, true, "already_applied"},
			{[]string{"verify", at("applied")}, true, "pages applied"},
			{[]string{"extract", "-C", at("dir"), archive}, false, ""},
			{[]string{"list", archive + ".no"}, false, ""},
			{[]string{"extract", archive + "no"}, false, ""},
			{append([]string{"backup", "--datadir=/nowhere"}, account...), false, ""},
			{append([]string{"check", "--datadir=/nowhere", "--rate-interval=10ms"}, account...), false, ""},
			{[]string{"frobnicate"}, false, ""},
		} {
			end := ended(t, "", test.args...)
			if test.position {
				told, _ := end["binlog"].(map[string]any)
				if told["file"] != position.File || told["pos"] != json.Number(fmt.Sprint(position.Pos)) || end["last_lsn"] != backup["last_lsn"] {
					t.Errorf("%v: position %v, LSN %v; want %+v, %v", test.args, told, end["last_lsn"], position, backup["last_lsn"])
				}
			}
			for _, key := range strings.Fields(test.keys) {
				if end[key] == nil {
					t.Errorf("%v: no %s: %v", test.args, key, end)
				}
			}
		}
	})
}
