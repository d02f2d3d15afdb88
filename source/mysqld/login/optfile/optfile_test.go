package optfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

// sample holds every shape of line that the rules speak of.
const sample = `# comment
; comment
[client]
user = joe   
password= "a b#c"   # trailing
pw2 = 'q"uote'
pw3 = "unterminated
pw4 = a#b
pw5 = a #b
pw6 = "a" "b"
pw7 = \s\t\n\r\b\\x\q\"end
pw8 = "in\sner\n"
pw9 = a\q\\b\
bare_key
Under_Score-mix = 1
loose-foo = 1
skip-bar
enable-bar3
skip-bar4=0
empty =
eq==x
 spaced key = v
a'b=c'd'
dq = "a'b"
sq= 'it''s'
esc = "a\"b"
sqesc = 'a\'b'
	tabkey	=	tabval	
k'#x=1
x="a # b
y="a\\" # b"
z=\"a#b
w='a"#'b
q="
r=""
t=''
[ client ]
leading=1
[client ]
trailing=1
[client] x
rest=1
[client-suf]
s=1
[CLIENT]
upper=1
[]
nogroup=1
[client#x]
hash=1
[client]
x=1 ; semi
v="abc"def
hash#key=1
key"q"=1
!unknown directive
!Include x
last=1`

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// noEnv is an empty environment.
func noEnv(string) string { return "" }

// printed is what my_print_defaults would print of a set.
func printed(s *Set) string {
	var b strings.Builder
	for _, o := range s.Options {
		b.WriteString("--" + o.Key)
		if o.HasValue {
			b.WriteString("=" + o.Value)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "my.cnf"), "[client]\nuser=a\n[other]\nuser=b\n!include "+
		write(t, filepath.Join(dir, "inc.cnf"), "[client]\nuser = c\n")+"\n[Hb]\nparallel\n")
	set, err := Source{DefaultsFile: file, Groups: []string{"client", "hb"}, Getenv: noEnv}.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := []Option{
		{"client", "user", "a", true, file, 2},
		{"client", "user", "c", true, filepath.Join(dir, "inc.cnf"), 2},
		{"Hb", "parallel", "", false, file, 7},
	}
	if len(set.Options) != len(want) {
		t.Fatalf("options = %v, want %v", set.Options, want)
	}
	for i := range want {
		if set.Options[i] != want[i] {
			t.Errorf("option %d = %v (value %q), want %v", i, set.Options[i], set.Options[i].Value, want[i])
		}
	}
	if o, ok := set.Lookup("user"); !ok || o.Value != "c" {
		t.Errorf("user = %v %v, want the last one", o, ok)
	}
	if o, ok := set.InGroup("hb").Lookup("user"); ok {
		t.Errorf("group hb has %v", o)
	}
}

func TestFileOrder(t *testing.T) {
	dir := t.TempDir()
	f := func(name, v string) string {
		return write(t, filepath.Join(dir, name), "[client]\nv="+v+"\n[client-s]\ns="+v+"\n")
	}
	env := map[string]string{"HOME": filepath.Join(dir, "home"), "MYSQL_HOME": filepath.Join(dir, "mysqlhome")}
	f("home/.my.cnf", "5")
	f("mysqlhome/my.cnf", "3")
	f("mariadbhome/my.cnf", "3b")
	src := Source{
		System: []string{f("a.cnf", "1"), filepath.Join(dir, "none.cnf"), f("b.cnf", "2")}, ExtraFile: f("extra.cnf", "4"),
		Groups: []string{"client"}, Getenv: func(n string) string { return env[n] },
	}
	check := func(what, want string) {
		t.Helper()
		set, err := src.Load()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range set.Options {
			got = append(got, o.Key+o.Value)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("list", "v1 v2 v3 v4 v5")
	env["MARIADB_HOME"] = filepath.Join(dir, "mariadbhome")
	check("MARIADB_HOME", "v1 v2 v3b v4 v5")
	env["MYSQL_GROUP_SUFFIX"] = "-s"
	check("suffix", "v1 s1 v2 s2 v3b s3b v4 s4 v5 s5")
	env["MARIADB_GROUP_SUFFIX"] = "-none"
	check("suffix of MariaDB", "v1 v2 v3b v4 v5")
	src.GroupSuffix = "-s"
	check("suffix option", "v1 s1 v2 s2 v3b s3b v4 s4 v5 s5")
	src.GroupSuffix, env["MARIADB_GROUP_SUFFIX"], env["MYSQL_GROUP_SUFFIX"] = "", "", ""
	src.DefaultsFile = filepath.Join(dir, "b.cnf")
	check("defaults file", "v2")
	src.DefaultsFile = "~/.my.cnf"
	check("defaults file at home", "v5")
	src.NoDefaults = true
	check("no defaults", "")
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	open := write(t, filepath.Join(dir, "open.cnf"), "[client]\na=1\n")
	if err := os.Chmod(open, 0o602); err != nil {
		t.Fatal(err)
	}
	main := write(t, filepath.Join(dir, "main.cnf"), "[client]\n!include "+open+"\n!include "+dir+"/none.cnf\nb=1\n")
	self := filepath.Join(dir, "self.cnf")
	write(t, self, "[client]\nc=1\n!include "+self+"\n")
	for _, test := range []struct {
		file, printed, warning string
	}{
		{open, "", "anyone may write to it"},
		{main, "--b=1\n", "none.cnf"},
		{self, strings.Repeat("--c=1\n", 11), "10 deep"},
	} {
		set, err := Source{DefaultsFile: test.file, Groups: []string{"client"}, Getenv: noEnv}.Load()
		if err != nil {
			t.Errorf("%s: %v", test.file, err)
			continue
		}
		if got := printed(set); got != test.printed {
			t.Errorf("%s: options %q, want %q", test.file, got, test.printed)
		}
		if w := strings.Join(set.Warnings, "\n"); !strings.Contains(w, test.warning) {
			t.Errorf("%s: warnings %q, want %q", test.file, w, test.warning)
		}
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop.cnf")
	write(t, loop, strings.Repeat("!include "+loop+"\n", 20))
	for _, test := range []struct{ name, text, want string }{
		{"orphan", "user=secret\n[client]\n", "bad.cnf:1: an option stands before the first [group]"},
		{"bracket", "[client]\na=1\n[client\n", "bad.cnf:3: the group lacks its ']'"},
		{"include nothing", "[client]\n!include\n", "bad.cnf:2: !include names no path"},
		{"directory", "!includedir " + dir + "/none\n", "none: no such file"},
		{"in the included", "!include " + write(t, filepath.Join(dir, "o.cnf"), "x=1\n") + "\n", "o.cnf:1: an option stands"},
		{"long line", "[client]\nx=" + strings.Repeat("a", maxLineLen) + "\n", "bad.cnf:2: the line is longer than"},
		{"zero byte", "[client]\nx=a\x00b\n", "bad.cnf:2: the line holds a zero byte"},
		{"no name", "[client]\n = x\n", "bad.cnf:2: the option has no name"},
		{"large", strings.Repeat("\n", maxFileSize+1), "larger than"},
		{"options", "[client]\n" + strings.Repeat("a\n", maxOptions+1), "more than 10000 options"},
		{"loop", "!include " + loop + "\n", "more than 1000 option files"},
	} {
		file := write(t, filepath.Join(dir, "bad.cnf"), test.text)
		_, err := Source{DefaultsFile: file, Groups: []string{"client"}, Getenv: noEnv}.Load()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error = %v, want %q", test.name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error %v shows a value", test.name, err)
		}
	}
	for _, src := range []Source{{DefaultsFile: dir + "/none"}, {ExtraFile: dir + "/none", System: []string{}}} {
		src.Getenv = noEnv
		if _, err := src.Load(); err == nil || !strings.Contains(err.Error(), "no such file") || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("missing named file: error = %v", err)
		}
	}
}

func TestSetting(t *testing.T) {
	for key, want := range map[string]Setting{
		"ssl_ca":            {Name: "ssl-ca"},
		"loose-ssl-ca":      {Name: "ssl-ca", Loose: true},
		"skip_ssl":          {Name: "ssl", Off: true},
		"loose_disable-ssl": {Name: "ssl", Off: true, Loose: true},
		"enable-ssl":        {Name: "ssl", On: true},
		"skip-":             {Name: "skip-"},
	} {
		if got := (Option{Key: key}).Setting(); got != want {
			t.Errorf("%s: %+v, want %+v", key, got, want)
		}
	}
}

func TestBool(t *testing.T) {
	for text, want := range map[string]bool{
		"ssl": true, "ssl=0": false, "ssl=ON": true, "skip-ssl": false, "skip-ssl=0": true, "enable-ssl": true,
		"ssl\nskip-ssl": false, "skip-ssl\nssl": true, "loose_disable_ssl": false,
	} {
		file := write(t, filepath.Join(t.TempDir(), "b.cnf"), "[client]\n"+text+"\n")
		set, err := Source{DefaultsFile: file, Groups: []string{"client"}, Getenv: noEnv}.Load()
		if err != nil {
			t.Fatal(err)
		}
		on, found, err := set.Bool("ssl")
		if err != nil || !found || on != want {
			t.Errorf("%q: %v %v %v, want %v", text, on, found, err, want)
		}
	}
	if _, err := (Option{Key: "ssl", Value: "perhaps", HasValue: true}).Bool(); err == nil {
		t.Error("ssl=perhaps: no error")
	}
}

// TestNoSecrets shows that no verb prints a value.
func TestNoSecrets(t *testing.T) {
	o := Option{Group: "client", Key: "password", Value: "geheim", HasValue: true, File: "f", Line: 1}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{o, &o, []Option{o}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "geheim") {
				t.Errorf("%s of %T shows the value: %s", verb, v, s)
			}
		}
	}
}

// printDefaults runs the server's own program.
func printDefaults(t testing.TB, root *mysqldtest.Root, file string, args ...string) (stdout string, ok bool) {
	t.Helper()
	cmd := root.Tool("my_print_defaults", append([]string{"--defaults-file=" + file}, args...)...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	return out.String(), err == nil && !strings.Contains(stderr.String(), "error:")
}

// TestAgainstMariaDB holds the rules against the servers' own programs.
func TestAgainstMariaDB(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		dir := t.TempDir()
		for _, name := range []string{".cnf", ".h.cnf", "b.cnf", "B.cnf", "10.cnf", "x.ini", "x.CNF", "x.cnf~"} {
			write(t, filepath.Join(dir, "d", name), "[client]\nfrom="+name+"\n")
		}
		if err := os.Mkdir(filepath.Join(dir, "d", "sub.cnf"), 0o755); err != nil {
			t.Fatal(err)
		}
		include := "\n !  includedir \t" + dir + "/d/ \n!include " + dir + "/d/x.ini\t\n!include/none\nz=1\n"
		for i, text := range []string{sample, sample + include, strings.ReplaceAll(sample, "\n", "\r\n"), include} {
			file := write(t, filepath.Join(dir, fmt.Sprintf("%d.cnf", i)), text)
			compare(t, root, file)
		}
	})
}

func compare(t *testing.T, root *mysqldtest.Root, file string) {
	t.Helper()
	for _, suffix := range []string{"", "-suf"} {
		groups := []string{"client", "client#x", "hb"}
		args := groups
		if suffix != "" {
			args = append([]string{"--defaults-group-suffix=" + suffix}, groups...)
		}
		want, ok := printDefaults(t, root, file, args...)
		set, err := Source{DefaultsFile: file, GroupSuffix: suffix, Groups: groups, Getenv: noEnv}.Load()
		if ok != (err == nil) {
			text, _ := os.ReadFile(file)
			t.Errorf("%s: error %v, the server's program: ok = %v\n%q", file, err, ok, text)
			continue
		}
		if err == nil && printed(set) != want {
			text, _ := os.ReadFile(file)
			t.Errorf("%s (suffix %q):\n got %q\nwant %q\nof   %q", file, suffix, printed(set), want, text)
		}
	}
}

// TestAgainstMariaDBRandom compares random lines made of the bytes that matter.
func TestAgainstMariaDBRandom(t *testing.T) {
	n := 60
	if mysqldtest.Long() {
		n = 2000
	}
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		rnd := rand.New(rand.NewPCG(1, 2))
		dir := t.TempDir()
		for i := range n {
			var b strings.Builder
			b.WriteString("[client]\n")
			for range 40 {
				b.WriteString(randomLine(rnd) + "\n")
			}
			compare(t, root, write(t, filepath.Join(dir, fmt.Sprintf("%d.cnf", i)), b.String()))
			if t.Failed() {
				return
			}
		}
	})
}

func randomLine(rnd *rand.Rand) string {
	const alphabet = `ab="'#\;![] snx-_` + "\t\v\f\r"
	line := make([]byte, rnd.IntN(16))
	for i := range line {
		line[i] = alphabet[rnd.IntN(len(alphabet))]
	}
	switch rnd.IntN(4) {
	case 0:
		return "k=" + string(line)
	case 1:
		return "[client" + string(line) + "]"
	}
	if strings.HasPrefix(strings.TrimLeft(string(line), spaces), "=") {
		return "" // hb refuses it, the programs do not
	}
	return string(line)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("[client]\n!include /nonexistent\n!includedir\n"))
	f.Add([]byte("[client\n"))
	f.Add([]byte("[client]\r\na='\\"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte("include")) {
			return // it must not read this machine's files
		}
		l := &loader{set: &Set{}, groups: map[string]bool{"client": true}}
		if err := l.parse("f", text, 0); err != nil {
			return
		}
		for _, o := range l.set.Options {
			if !strings.EqualFold(o.Group, "client") {
				t.Errorf("%v was not asked for", o)
			}
			if !o.HasValue && o.Value != "" {
				t.Errorf("%v has a value without '='", o)
			}
			if strings.Contains(o.Key, "=") || strings.TrimSpace(o.Key) != o.Key && strings.Trim(o.Key, spaces) != o.Key {
				t.Errorf("key %q", o.Key)
			}
			// What was read, written again with every special byte escaped,
			// reads the same.
			again := parseOption("k=\"" + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(o.Value) + `"`)
			if again.Value != o.Value {
				t.Errorf("value %q reads back as %q", o.Value, again.Value)
			}
		}
	})
}

// TestQuote: a quoted text is read as it was, with a comment after it.
func TestQuote(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const alphabet = "ab \t\n\r\b\\\"'#;=!\v\f[]ü"
	letters := []rune(alphabet)
	for range 5000 {
		value := make([]rune, rng.IntN(8))
		for i := range value {
			value[i] = letters[rng.IntN(len(letters))]
		}
		file := write(t, filepath.Join(t.TempDir(), "my.cnf"), "[hb]\nv="+Quote(string(value))+" # comment's \"text\n")
		set, err := Source{DefaultsFile: file, Groups: []string{"hb"}}.Load()
		if err != nil || len(set.Options) != 1 || set.Options[0].Value != string(value) {
			t.Fatalf("%q became %q: %v, %v", value, Quote(string(value)), set, err)
		}
	}
}
