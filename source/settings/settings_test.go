package settings

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"hb/source/mysqld/login"
	"hb/stream"
)

// grammar is a small command line of the kind that hb has.
type grammar struct {
	One struct {
		User         string
		Password     *string
		AskPassword  bool
		PasswordFile string `type:"path"`
		Level        int
		Rate         stream.Size
		To           []string `sep:"none"`
		Files        []string `sep:"none" type:"path"`
		Compress     bool
		Kind         string `enum:"a,b," default:""`
	} `cmd:""`
	Two struct {
		Level int
		Other string
	} `cmd:""`

	Quiet               bool
	DefaultsFile        string
	DefaultsExtraFile   string
	DefaultsGroupSuffix string
	NoDefaults          bool
}

func (g *grammar) BeforeResolve(ctx *kong.Context, s *Settings) error { return s.Load(ctx) }

// parsed is a command line that was parsed.
type parsed struct {
	grammar
	s   *Settings
	ctx *kong.Context
}

func parse(t *testing.T, file string, env map[string]string, args ...string) (*parsed, error) {
	t.Helper()
	return parseIn(t, file, login.Env{Getenv: func(n string) string { return env[n] }}, args...)
}

func parseIn(t *testing.T, file string, env login.Env, args ...string) (*parsed, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "my.cnf")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	env.System = []string{path}
	p := &parsed{s: New(env)}
	parser, err := kong.New(&p.grammar, kong.Bind(p.s), kong.Resolvers(p.s))
	if err != nil {
		t.Fatal(err)
	}
	p.ctx, err = parser.Parse(args)
	return p, err
}

// TestPrecedence: the command line before the environment before option files
// before the default.
func TestPrecedence(t *testing.T) {
	const file = "[hb]\nlevel=1\nrate=1K\nto=one\nto=two, three\ncompress\nquiet=off\nkind=a\nfiles=/x\nother=for two\nloose-nonsense=1\n[client]\nlevel=7\nuser=u\n"
	for _, test := range []struct {
		name string
		file string
		env  map[string]string
		args []string
		want string
	}{
		{"nothing", "", nil, []string{"one"}, "0 0 B [] [] false  false"},
		{"file", file, nil, []string{"one"}, "1 1.00 KiB [one two, three] [/x] true a false"},
		{"last line", file + "[hb]\nlevel=2\nskip-compress\n", nil, []string{"one"}, "2 1.00 KiB [one two, three] [/x] false a false"},
		{"environment", file, map[string]string{"HB_LEVEL": "3", "HB_TO": "x, y", "HB_COMPRESS": "off", "HB_QUIET": "1", "HB_FILES": "/a,/b"},
			[]string{"one"}, "3 1.00 KiB [x y] [/a /b] false a true"},
		{"empty variables", file, map[string]string{"HB_LEVEL": "", "HB_TO": ""}, []string{"one"}, "1 1.00 KiB [one two, three] [/x] true a false"},
		{"command line", file, map[string]string{"HB_LEVEL": "3", "HB_TO": "x"}, []string{"one", "--level=4", "--to=z", "--compress=false", "--kind=b"},
			"4 1.00 KiB [z] [/x] false b false"},
		{"no files", file, map[string]string{"HB_LEVEL": "3"}, []string{"--no-defaults", "one"}, "3 0 B [] [] false  false"},
		{"no files by a variable", file, map[string]string{"HB_NO_DEFAULTS": "1"}, []string{"one"}, "0 0 B [] [] false  false"},
		{"suffix", file + "[hb-night]\nlevel=9\n", nil, []string{"one", "--defaults-group-suffix=-night"}, "9 1.00 KiB [one two, three] [/x] true a false"},
		{"suffix by a variable", file + "[hb-night]\nlevel=9\n", map[string]string{"HB_DEFAULTS_GROUP_SUFFIX": "-night"}, []string{"one"},
			"9 1.00 KiB [one two, three] [/x] true a false"},
	} {
		p, err := parse(t, test.file, test.env, test.args...)
		o := &p.One
		if got := fmt.Sprint(o.Level, o.Rate, o.To, o.Files, o.Compress, " ", o.Kind, " ", p.Quiet); err != nil ||
			strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(test.want), " ") {
			t.Errorf("%s: %s, %v, want %s", test.name, got, err, test.want)
		}
	}
	p, err := parse(t, file, map[string]string{"HB_LEVEL": "3"}, "two")
	if err != nil || p.Two.Level != 3 || p.Two.Other != "for two" {
		t.Errorf("the other command: %+v, %v", p.Two, err)
	}
}

// TestConnectionIsLeft: what option files say of the connection, and passwords, are
// not taken here.
func TestConnectionIsLeft(t *testing.T) {
	const file = "[hb]\nuser=hu\npassword=hp\npassword-file=/pf\nconnect-timeout=3\nssl=0\n"
	env := map[string]string{"HB_PASSWORD": "ep", "HB_ASK_PASSWORD": "1"}
	p, err := parse(t, file, env, "one")
	if err != nil || p.One.User != "" || p.One.Password != nil || p.One.AskPassword || p.One.PasswordFile != "" {
		t.Errorf("%+v, %v", p.One, err)
	}
	env["HB_USER"], env["HB_PASSWORD_FILE"] = "eu", "/epf"
	if p, err = parse(t, file, env, "one"); err != nil || p.One.User != "eu" || p.One.PasswordFile != "/epf" {
		t.Errorf("%+v, %v", p.One, err)
	}
	for _, arg := range []string{"--password=x", "--ask-password"} {
		if p, err = parse(t, file, env, "one", arg); err != nil || p.One.PasswordFile != "" {
			t.Errorf("%s: %+v, %v", arg, p.One, err)
		}
	}
}

// TestMistakes: each names the place.
func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		file string
		env  map[string]string
		want string
	}{
		{"[hb]\n\nlevle=1\n", nil, `option "levle" in group [hb] at FILE:3: no command of hb has it`},
		{"[HB]\ndefaults-file=x\n", nil, `FILE:2 belongs on the command line`},
		{"[hb]\nask-password\n", nil, `belongs on the command line`},
		{"[hb]\nlevel=1\nlevel=x\n", nil, "--level: FILE:3 [hb]: expected a valid 64 bit int"},
		{"[hb]\nlevel\n", nil, `FILE:2: it needs a value`},
		{"[hb]\nskip-level\n", nil, `FILE:2: it needs a value`},
		{"[hb]\ncompress=perhaps\n", nil, `FILE:2 is neither on nor off`},
		{"[hb]\nkind=c\n", nil, `FILE:2 [hb]: "c" is not one of a, b`},
		{"[hb]\nrate=fast\n", nil, `FILE:2 [hb]: "fast" is not a size`},
		{"[hb\n", nil, "FILE:1"},
		{"", map[string]string{"HB_LEVEL": "x"}, "--level: HB_LEVEL: expected"},
		{"", map[string]string{"HB_COMPRESS": "x"}, "HB_COMPRESS: \"x\" is neither on nor off"},
		{"", map[string]string{"HB_KIND": "c"}, "HB_KIND"},
		{"", map[string]string{"HB_DEFAULTS_FILE": "/nowhere/x"}, "/nowhere/x"},
		{"", map[string]string{"HB_NO_DEFAULTS": "x"}, "neither on nor off"},
	} {
		p, err := parse(t, test.file, test.env, "one")
		want := strings.ReplaceAll(test.want, "FILE", p.s.Env.System[0])
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q %v: %v, want %q", test.file, test.env, err, want)
		}
	}
}

// TestUnknownVariables: a variable that may have been meant to protect is a mistake,
// others are warned of, and some are not hb's.
func TestUnknownVariables(t *testing.T) {
	for _, test := range []struct{ variable, mistake, warning string }{
		{"HB_COMPRES=1", "HB_COMPRES is set, but hb has no such option. Did you mean HB_COMPRESS?", ""},
		{"HB_COMPRESSION=9", "HB_COMPRESSION is set", ""},
		{"HB_ENCRYPT=age1x", "HB_ENCRYPT is set", ""},
		{"HB_SSL_CAFILE=/x", "HB_SSL_CAFILE is set", ""},
		{"HB_LEVLE=1", "", "HB_LEVLE is set, but hb has no such option. Did you mean HB_LEVEL? It is ignored"},
		{"HB_SERVICE_HOST=10.0.0.1", "", "HB_SERVICE_HOST is set, but hb has no such option. It is ignored"},
		{"HB_LEVEL=1", "", ""},
		{"HB_COMPRES=", "", ""},
		{"HB_PASSWORD=x", "", ""},
		{"HB_TEST_LONG=1", "", ""},
		{"hb_compres=1", "", ""},
		{"XHB_COMPRES=1", "", ""},
	} {
		p, err := parseIn(t, "", login.Env{Getenv: func(string) string { return "" }, Environ: func() []string { return []string{"PATH=/bin", test.variable} }}, "two")
		switch {
		case test.mistake == "" && err != nil, test.mistake != "" && (err == nil || !strings.Contains(err.Error(), test.mistake)):
			t.Errorf("%s: %v, want %q", test.variable, err, test.mistake)
		}
		if got := strings.Join(p.s.Env.Options.Warnings, "; "); got != test.warning {
			t.Errorf("%s: warned %q, want %q", test.variable, got, test.warning)
		}
	}
}

// TestPrint: the output has where each option is from, shows no password,
// and says the same again when it is the option file.
func TestPrint(t *testing.T) {
	const file = "[client]\nuser=cu\npassword=sesame\nport=7\n[hb]\nlevel=1\nto=\"a # b\"\nto='it\\'s'\nfiles=/a b\ncompress=1\nrate=1536K\nskip-ssl\n"
	env := map[string]string{"HB_LEVEL": "2", "MYSQL_HOST": "h"}
	p, err := parse(t, file, env, "one", "--kind=b")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := p.s.Print(&out, p.ctx); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(out.String(), p.s.Env.System[0], "FILE")
	want := strings.ReplaceAll(`# option files: FILE
[hb]
level=2       # HB_LEVEL
rate=1536KiB  # FILE:11 [hb]
to="a # b"    # FILE:7 [hb]
to="it\'s"    # FILE:8 [hb]
files="/a b"  # FILE:9 [hb]
compress      # FILE:10 [hb]
kind=b        # command line
user=cu       # FILE:2 [client]
host=h        # MYSQL_HOST
port=7        # FILE:4 [client]
#password=*** # FILE:3 [client]
ssl=0         # FILE:12 [hb]
`, "\t", "")
	if text != want {
		t.Errorf("it prints\n%s\nwant\n%s", text, want)
	}
	again, err := parse(t, out.String(), nil, "one")
	if err != nil || !reflect.DeepEqual(again.One, p.One) {
		t.Errorf("read again: %v\n%+v\n%+v", err, again.One, p.One)
	}
	before, _, err := login.Resolve(login.Flags{}, p.s.Env)
	if err != nil {
		t.Fatal(err)
	}
	after, _, err := login.Resolve(login.Flags{}, again.s.Env)
	before.Password, before.UserFrom, before.PasswordFrom = login.Secret{}, after.UserFrom, "" // it is the options that are printed
	if err != nil || before != after {
		t.Errorf("%v: the connection is\n%+v\nand was\n%+v", err, after, before)
	}

	for _, test := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{map[string]string{"HB_PASSWORD": "sesame"}, nil, "#password=*** # HB_PASSWORD\n"},
		{map[string]string{"MYSQL_PWD": "sesame"}, []string{"--password=sesame"}, "#password=*** # command line\n"},
		{map[string]string{"HB_PASSWORD": "sesame"}, []string{"--ask-password"}, "#password=*** # command line\n"},
		{map[string]string{"HB_PASSWORD": "sesame"}, []string{"--password-file=/pw"}, "password-file=/pw # command line\n"},
	} {
		p, err := parse(t, "[client]\npassword=sesame\n", test.env, append([]string{"one"}, test.args...)...)
		if err != nil {
			t.Fatal(err)
		}
		out.Reset()
		if err := p.s.Print(&out, p.ctx); err != nil {
			t.Fatal(err)
		}
		if _, got, _ := strings.Cut(out.String(), "[hb]\n"); got != test.want {
			t.Errorf("%v %v: %q, want %q", test.env, test.args, got, test.want)
		}
	}
}

// TestPrintUnconnected: commands without a server have no settings of its clients.
func TestPrintUnconnected(t *testing.T) {
	p, err := parse(t, "[client]\nuser=cu\n[hb]\nother=x\n", nil, "two")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := p.s.Print(&out, p.ctx); err != nil || !strings.Contains(out.String(), "other=x") || strings.Contains(out.String(), "user=") {
		t.Errorf("%v: %q", err, out.String())
	}
}

// TestPeek: an option in arguments that no parser took.
func TestPeek(t *testing.T) {
	const option = "log-format"
	for _, test := range []struct {
		args, variable, want string
	}{
		{"backup --nonsense --log-format json", "", "json"},
		{"--log-format=json", "text", "json"},
		{"list --log-format", "text", "text"},
		{"list", "json", "json"},
		{"list --log-formats=json", "", ""},
	} {
		s := New(login.Env{Getenv: func(name string) string { return map[string]string{"HB_LOG_FORMAT": test.variable}[name] }})
		if got := s.Peek(strings.Fields(test.args), option); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
