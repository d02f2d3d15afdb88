package mysqld

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/xbstream/metadata"
)

func TestParseVersion(t *testing.T) {
	for full, want := range map[string]string{
		"10.5.23-MariaDB-0+deb11u1-log":            "MariaDB 10.5.23 10.5",
		"11.8.6-MariaDB-0+deb13u1 from Debian-log": "MariaDB 11.8.6 11.8",
		"5.5.5-10.3.1-mariadb":                     "MariaDB 5.5.5 5.5",
		"8.4.3":                                    "MySQL 8.4.3 8.4",
		"5.7.29-32-log":                            "MySQL 5.7.29 5.7",
	} {
		f, v, err := ParseVersion(full)
		if got := fmt.Sprint(f, " ", v, " ", v.Series()); err != nil || got != want || v.Full != full {
			t.Errorf("%q: %s, %v, want %s", full, got, err, want)
		}
	}
	for _, full := range []string{"", "MariaDB", "10.5", "10.5.x", "10..5", "99999.1.1", "1.2.3.4", "-1.2.3"} {
		if f, v, err := ParseVersion(full); err == nil {
			t.Errorf("%q: %v %v, want an error", full, f, v)
		}
	}
}

func TestSeries(t *testing.T) {
	for full, want := range map[string]Series{
		"10.5.0-MariaDB":  {Files: metadata.XtraBackupNames, SuperSees: true},
		"10.6.9-MariaDB":  {SuperSees: true, RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
		"10.11.1-MariaDB": {SuperSees: true, RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
		"11.0.2-MariaDB":  {RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
		"11.1.2-MariaDB":  {Files: metadata.MariaDBNames, RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
		"11.8.6-MariaDB":  {Files: metadata.MariaDBNames, RecoverBinlogInfo: true, GaleraDomain: true, ListsOpen: true},
	} {
		if want.Files == (metadata.Names{}) {
			want.Files = metadata.XtraBackupNames
		}
		want.Stages = true
		f, v, err := ParseVersion(full)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := SeriesOf(f, v); err != nil || d != want {
			t.Errorf("%s: %+v, %v, want %+v", full, d, err, want)
		}
	}
	for _, full := range []string{"10.4.30-MariaDB", "12.0.1-MariaDB", "8.4.3" /* without a comment */, "10.6.1"} {
		f, v, err := ParseVersion(full)
		if err != nil {
			t.Fatal(err)
		}
		_, err = SeriesOf(f, v)
		ue, ok := errors.AsType[*UnsupportedError](err)
		if !ok || ue.Version != v || !strings.Contains(err.Error(), full) || !strings.Contains(err.Error(), "MariaDB 10.5 to before 12.0") {
			t.Errorf("%s: %v", full, err)
		}
	}
}

// TestTestedWith: what is supported and was not tested is known to be so.
func TestTestedWith(t *testing.T) {
	for full, want := range map[string]string{
		"5.6.51": "5.6.24", "5.7.44": "5.7.29", "8.0.28": "", "8.0.30": "9.7.4", "8.4.3": "9.7.4",
		"10.5.1-MariaDB": "10.5.23", "10.7.8-MariaDB": "10.5.23", "10.8.3-MariaDB": "10.11.18", "11.4.2-MariaDB": "11.8.6 11.8.9",
	} {
		f, v, err := ParseVersion(full)
		if got := strings.Join(TestedWith(f, v), " "); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", full, got, err, want)
		}
	}
	if got := TestedWith(MySQL, Version{Major: 5, Minor: 7, Patch: 29, Comment: "Percona Server (GPL)"}); got != nil {
		t.Errorf("a fork: %q", got)
	}
}

func TestVars(t *testing.T) {
	v := Vars{m: map[string]string{
		"datadir": "/d/data/", "innodb_data_home_dir": "", "innodb_log_group_home_dir": "./", "innodb_undo_directory": "../undo",
		"aria_log_dir_path": "/aria/", "innodb_data_file_path": "ibdata1:12M;sub/ibdata2:10M:autoextend:max:1G;/abs/x:1M",
		"ignore_db_dirs": "lost+found,.snap", "innodb_page_size": "65536", "log_bin": "ON", "socket": "s.sock", "bad": "x",
	}}
	for got, want := range map[string]string{
		v.Datadir(): "/d/data", v.InnodbHome(): "/d/data", v.LogDir(): "/d/data", v.UndoDir(): "/d/undo", v.AriaLogDir(): "/aria",
		v.SocketPath(): "/d/data/s.sock", strings.Join(v.IgnoredDirs(), "|"): "lost+found|.snap",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	files, err := v.SystemFiles()
	if err != nil || strings.Join(files, "|") != "/d/data/ibdata1|/d/data/sub/ibdata2|/abs/x" {
		t.Errorf("system files %q, %v", files, err)
	}
	if n, err := v.PageSize(); n != 65536 || err != nil {
		t.Errorf("page size %d, %v", n, err)
	}
	for _, name := range []string{"bad", "none"} {
		if n, err := v.Int(name); err == nil {
			t.Errorf("%s = %d, want an error", name, n)
		}
	}
	for _, spec := range []string{"", "ibdata1", "/dev/sda:5Graw", "/dev/sda:5Gnewraw", ":5M"} {
		if f, err := (Vars{m: map[string]string{"innodb_data_file_path": spec}}).SystemFiles(); err == nil {
			t.Errorf("%q: %q, want an error", spec, f)
		}
	}
	if n, err := (Vars{m: map[string]string{"innodb_page_size": "1000"}}).PageSize(); err == nil {
		t.Errorf("page size %d, want an error", n)
	}
}

func TestGlobalGrants(t *testing.T) {
	for line, want := range map[string]string{
		"GRANT USAGE ON *.* TO `g`@`localhost` IDENTIFIED BY PASSWORD '*X'":   "USAGE",
		"GRANT RELOAD, binlog monitor ON *.* TO `g`@`%`":                      "BINLOG MONITOR|RELOAD",
		"GRANT REPLICATION CLIENT ON *.* TO 'g'@'%'":                          "BINLOG MONITOR|REPLICATION CLIENT",
		"GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION": "ALL PRIVILEGES",
		"GRANT RELOAD ON `db`.* TO `g`@`%`":                                   "",
		"GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION":       "",
		"GRANT `RELOAD` TO `g`@`%`":                                           "",
		"GRANT `x ON *.* TO y` TO `g`@`%`":                                    "",
		"GRANT SELECT (`a`), RELOAD ON `d`.`x ON *.* TO ` TO `g`@`%`":         "",
		"SET DEFAULT ROLE `backup` FOR `g`@`localhost`":                       "",
		"GRANT SELECT ON *.* TO `a ON *.* TO b`@`%`":                          "SELECT",
	} {
		have := make(map[Privilege]bool)
		addGlobalGrants(have, line)
		var got []string
		for _, p := range []Privilege{"ALL PRIVILEGES", "BINLOG MONITOR", "RELOAD", "REPLICATION CLIENT", "SELECT", "USAGE", "SLAVE MONITOR"} {
			if have[p] {
				got = append(got, string(p))
			}
		}
		if strings.Join(got, "|") != want || len(have) != len(got) {
			t.Errorf("%s: %v, want %s", line, have, want)
		}
	}
	e := &MissingPrivilegesError{User: "o'x@y@%", Missing: []Privilege{PrivReload, PrivSlaveMonitor}}
	if want := "GRANT RELOAD, SLAVE MONITOR ON *.* TO 'o''x@y'@'%';"; strings.Join(e.Grants(), " ") != want || !strings.Contains(e.Error(), want) {
		t.Errorf("%s; %v", strings.Join(e.Grants(), " "), e)
	}
}

func TestPositionTexts(t *testing.T) {
	r := ReplicaState{GTIDPos: "0-1-2", Sources: []ReplicaSource{
		{File: "a.1", Pos: 4}, {Name: "o'x", File: "b.1", Pos: 5}, {Name: "g", UsingGTID: true}, {Name: "h", UsingGTID: true}}}
	const want = "CHANGE MASTER TO MASTER_LOG_FILE='a.1', MASTER_LOG_POS=4;\n" +
		"CHANGE MASTER 'o''x' TO MASTER_LOG_FILE='b.1', MASTER_LOG_POS=5;\n" +
		"SET GLOBAL gtid_slave_pos = '0-1-2';\n" +
		"CHANGE MASTER 'g' TO master_use_gtid = slave_pos;\n" +
		"CHANGE MASTER 'h' TO master_use_gtid = slave_pos;\n"
	if got := r.FileText(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	g := GaleraState{UUID: "u", SeqNo: "7", DomainID: "3"}
	if a, b := g.FileText(Series{}), g.FileText(Series{GaleraDomain: true}); a != "u:7\n" || b != "u:7 3\n" {
		t.Errorf("%q, %q", a, b)
	}
}

// resolve writes an option file and resolves.
func resolve(t *testing.T, f Flags, file string, env map[string]string) (Options, error) {
	t.Helper()
	f.DefaultsFile = filepath.Join(t.TempDir(), "my.cnf")
	if err := os.WriteFile(f.DefaultsFile, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	o, _, err := Resolve(f, Env{
		Getenv: func(n string) string { return env[n] }, UID: 1000, Sockets: []string{filepath.Join(t.TempDir(), "none")},
		AskPassword: func(prompt string) (Secret, error) { return NewSecret("asked " + prompt), nil },
	})
	return o, err
}

func TestResolve(t *testing.T) {
	pwFile := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(pwFile, []byte("of file\r\nrest"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := NewSecret("of flag")
	const file = "[client]\nuser=fu\nport=1\nsocket=/fs\npassword=fp\n[client-mariadb]\nuser=mu\n[hb]\nconnect_timeout=3\n"
	for _, test := range []struct {
		name string
		f    Flags
		file string
		env  map[string]string
		want string
	}{
		{"file", Flags{}, file, nil, "mu at socket /fs fp 3s"},
		{"environment", Flags{}, file, map[string]string{"MYSQL_PWD": "ep", "MYSQL_UNIX_PORT": "/es"}, "mu at socket /fs fp 3s"},
		{"environment alone", Flags{User: "x"}, "", map[string]string{"MYSQL_PWD": "ep", "MYSQL_UNIX_PORT": "/es"}, "x at socket /es ep 10s"},
		{"skip-password and environment", Flags{}, file + "[client]\nskip-password\n", map[string]string{"MYSQL_PWD": "ep"}, "mu at socket /fs  3s"},
		{"hb's environment", Flags{}, file, map[string]string{"MYSQL_PWD": "ep", "HB_PASSWORD": "hp"}, "mu at socket /fs hp 3s"},
		{"flags", Flags{User: "u", Socket: "/s", Password: &secret, ConnectTimeout: time.Second}, file, map[string]string{"HB_PASSWORD": "hp"}, "u at socket /s of flag 1s"},
		{"password file", Flags{PasswordFile: pwFile}, file, map[string]string{"HB_PASSWORD": "hp"}, "mu at socket /fs of file 3s"},
		{"password file by file", Flags{}, file + "[hb]\npassword-file=" + pwFile + "\n", nil, "mu at socket /fs of file 3s"},
		{"the last of both", Flags{}, "[hb]\npassword-file=/none\n" + file, nil, "mu at socket /fs fp 3s"},
		{"password file by file, and environment", Flags{}, file + "[hb]\npassword-file=/none\n", map[string]string{"HB_PASSWORD": "hp"}, "mu at socket /fs hp 3s"},
		{"prompt", Flags{AskPassword: true}, file, nil, "mu at socket /fs asked Password of mu at socket /fs:  3s"},
		{"prompt by file", Flags{}, file + "[client]\npassword\n", nil, "mu at socket /fs asked Password of mu at socket /fs:  3s"},
		{"skip-password", Flags{}, file + "[client]\nskip-password\n", nil, "mu at socket /fs  3s"},
		{"host", Flags{Host: "db1"}, file, nil, "mu at db1 port 1 fp 3s"},
		{"localhost is the socket", Flags{Host: "localhost"}, file, nil, "mu at socket /fs fp 3s"},
		{"port flag is TCP", Flags{Port: 7}, file, nil, "mu at localhost port 7 fp 3s"},
		{"port and socket flags", Flags{Port: 7, Socket: "/s"}, file, nil, "mu at socket /s fp 3s"},
		{"protocol", Flags{Protocol: "TCP"}, file, nil, "mu at localhost port 1 fp 3s"},
		{"default port", Flags{}, "[client]\nuser=x\nhost=h\nport=0\n", nil, "x at h port 3306  10s"},
		{"environment's host", Flags{User: "x"}, "", map[string]string{"MYSQL_HOST": "h", "MYSQL_TCP_PORT": "9"}, "x at h port 9  10s"},
		{"environment's user", Flags{Host: "h"}, "", map[string]string{"USER": "me"}, "me at h port 3306  10s"},
	} {
		o, err := resolve(t, test.f, test.file, test.env)
		got := fmt.Sprint(o, " ", o.Password.Reveal(), " ", o.ConnectTimeout)
		if err != nil || got != test.want {
			t.Errorf("%s: %s, %v, want %s", test.name, got, err, test.want)
		}
	}
	for _, test := range []struct {
		f          Flags
		file, want string
	}{
		{Flags{}, "[client]\nuser=x\n", "no server socket at"},
		{Flags{Host: "h"}, "", "no user name"},
		{Flags{User: "x", Host: "h"}, "[client]\nport=geheim\n", "not a port"},
		{Flags{User: "x", Host: "h", Port: 70000}, "", "not from 1 to 65535"},
		{Flags{User: "x", Protocol: "pipe"}, "", "neither tcp nor socket"},
		{Flags{User: "x", Host: "h"}, "[hb]\nconnect-timeout=0\n", "not a number of seconds"},
		{Flags{User: "x", Host: "h", PasswordFile: "/nonexistent/pw"}, "", "password file"},
		{Flags{User: "x", Host: "h"}, "[client]\nssl-crl=x\n", "does not support"},
		{Flags{User: "x", Host: "h"}, "[client]\nssl-cert=x\n", "belong together"},
		{Flags{User: "x", Host: "h"}, "[client]\nssl-mode=x\n", "is none of"},
		{Flags{User: "x", Host: "h"}, "[client]\nssl=perhaps\n", "neither on nor off"},
	} {
		if o, err := resolve(t, test.f, test.file, nil); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%+v %q: %v, %v, want %q", test.f, test.file, o, err, test.want)
		}
	}
}

// TestOrigins: where user and password are from, and that two passwords differ.
func TestOrigins(t *testing.T) {
	secret := NewSecret("of flag")
	const file = "[client]\nuser=fu\nsocket=/fs\npassword=fp\n"
	for _, test := range []struct {
		f    Flags
		file string
		env  map[string]string
		want string
	}{
		{Flags{}, file, nil, "FILE:2 [client], FILE:4 [client], "},
		{Flags{User: "u", Password: &secret}, file, map[string]string{"MYSQL_PWD": "x"}, "--user, --password, "},
		{Flags{}, file, map[string]string{"HB_PASSWORD": "x"}, "FILE:2 [client], HB_PASSWORD, "},
		{Flags{}, file, map[string]string{"MYSQL_PWD": "x"}, "FILE:2 [client], FILE:4 [client], the password in FILE:4 [client] counts, and another in MYSQL_PWD does not"},
		{Flags{}, file, map[string]string{"MYSQL_PWD": "fp"}, "FILE:2 [client], FILE:4 [client], "},
		{Flags{}, "", map[string]string{"HB_PASSWORD": "x", "MYSQL_PWD": "y", "LOGNAME": "me", "MYSQL_UNIX_PORT": "/s"}, "LOGNAME, HB_PASSWORD, the password in HB_PASSWORD counts, and another in MYSQL_PWD does not"},
		{Flags{}, "[client]\nuser=x\nsocket=/s\n", map[string]string{"MYSQL_PWD": "y"}, "FILE:2 [client], MYSQL_PWD, "},
		{Flags{User: "u", Socket: "/s"}, "", nil, "--user, , "},
	} {
		o, err := resolve(t, test.f, test.file, test.env)
		got := regexp.MustCompile(`/\S+:(\d)`).ReplaceAllString(fmt.Sprintf("%s, %s, %s", o.UserFrom, o.PasswordFrom, o.Overruled), "FILE:$1")
		if err != nil || got != test.want {
			t.Errorf("%+v %v: %s, %v, want %s", test.f, test.env, got, err, test.want)
		}
	}
}

func TestDefaultSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "hb")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o, _, err := Resolve(Flags{NoDefaults: true}, Env{Getenv: func(string) string { return "" }, Sockets: []string{dir + "/none", plain, dir + "/s"}})
	if err != nil || o.Socket != dir+"/s" || o.User != "root" {
		t.Errorf("%v, %v", o, err)
	}
	_, _, err = Resolve(Flags{NoDefaults: true}, Env{Getenv: func(string) string { return "" }, Sockets: []string{plain}})
	if e, ok := errors.AsType[*NoSocketError](err); !ok || !slices.Equal(e.Looked, []string{plain}) {
		t.Errorf("without a socket: %v", err)
	}
}

func TestTLSMode(t *testing.T) {
	for _, test := range []struct {
		f    Flags
		file string
		want TLSMode
	}{
		{Flags{}, "", TLSDefault},
		{Flags{}, "ssl", TLSRequired},
		{Flags{}, "skip-ssl", TLSDisabled},
		{Flags{}, "ssl-ca=/ca", TLSVerifyCA},
		{Flags{}, "ssl_verify_server_cert", TLSVerifyIdentity},
		{Flags{}, "ssl-ca=/ca\nssl-mode=REQUIRED", TLSRequired},
		{Flags{}, "ssl-cert=/c\nssl-key=/k", TLSRequired},
		{Flags{}, "ssl-ca=/ca\nskip-ssl", TLSDisabled},
		{Flags{SkipSSL: true}, "ssl-mode=VERIFY_IDENTITY", TLSDisabled},
		{Flags{SSLMode: "verify-ca"}, "skip-ssl", TLSVerifyCA},
		{Flags{SSLVerifyServerCert: true}, "skip-ssl", TLSVerifyIdentity},
		{Flags{SSLCA: "/ca"}, "", TLSVerifyCA},
	} {
		test.f.User, test.f.Host = "x", "h"
		o, err := resolve(t, test.f, "[client]\n"+test.file+"\n", nil)
		if err != nil || o.TLS.Mode != test.want {
			t.Errorf("%+v %q: %v, %v, want %v", test.f, test.file, o.TLS.Mode, err, test.want)
		}
	}
	for _, test := range []struct {
		mode          TLSMode
		network       string
		tls, fallback bool
		skip, chain   bool
	}{
		{TLSDefault, "tcp", true, true, true, false},
		{TLSDefault, "unix", false, false, false, false},
		{TLSPreferred, "unix", false, false, false, false},
		{TLSDisabled, "tcp", false, false, false, false},
		{TLSRequired, "unix", true, false, true, false},
		{TLSVerifyCA, "tcp", true, false, true, true},
		{TLSVerifyIdentity, "tcp", true, false, false, false},
	} {
		c, fallback, err := TLSOptions{Mode: test.mode}.Config(test.network, "h")
		if err != nil || (c != nil) != test.tls || fallback != test.fallback {
			t.Errorf("%+v: %v, %v, %v", test, c, fallback, err)
			continue
		}
		if c != nil && (c.InsecureSkipVerify != test.skip || (c.VerifyConnection != nil) != test.chain || c.ServerName != "h") {
			t.Errorf("%+v: skip %v, chain %v", test, c.InsecureSkipVerify, c.VerifyConnection != nil)
		}
	}
}

// TestSecret shows that a password does not print, in whatever it is held.
func TestSecret(t *testing.T) {
	const word = "geheim"
	s := NewSecret(word)
	o := Options{Network: "unix", Password: s}
	f := Flags{Password: &s}
	e := &ConnectError{Options: o, Err: errors.New("x")}
	for _, v := range []any{s, &s, o, &o, f, &f, e, *e, []Secret{s}, map[string]Secret{"a": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, word) || strings.Contains(text, fmt.Sprintf("%x", word)) {
				t.Errorf("%s of %T: %s", verb, v, text)
			}
		}
		b, err := json.Marshal(v)
		if err != nil || bytes.Contains(b, []byte(word)) {
			t.Errorf("JSON of %T: %s, %v", v, b, err)
		}
	}
}

// TestNoGTIDs: a replica that is to follow by GTID and has none goes on by its
// coordinates, if it has any.
func TestNoGTIDs(t *testing.T) {
	r := ReplicaState{flavor: MariaDB, Sources: []ReplicaSource{{UsingGTID: true, File: "a.1", Pos: 7}, {Name: "new", UsingGTID: true}}}
	const want = "CHANGE MASTER TO MASTER_LOG_FILE='a.1', MASTER_LOG_POS=7;\nSET GLOBAL gtid_slave_pos = '';\nCHANGE MASTER 'new' TO master_use_gtid = slave_pos;\n"
	if got := r.FileText(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.GTIDPos = "0-1-5"
	const both = "SET GLOBAL gtid_slave_pos = '0-1-5';\nCHANGE MASTER TO master_use_gtid = slave_pos;\nCHANGE MASTER 'new' TO master_use_gtid = slave_pos;\n"
	if got := r.FileText(); got != both {
		t.Errorf("with a GTID: %q, want %q", got, both)
	}
}

// TestMomentNeedsLock: without a lock that keeps the server still as far as that
// takes, no position is taken.
func TestMomentNeedsLock(t *testing.T) {
	tables := &Lock{lockConn{held: true, times: []LockTime{{Blocks: BlocksOthers}}}}
	instance := &Lock{lockConn{held: true, times: []LockTime{{Blocks: BlocksDDL}}}}
	released := &Lock{lockConn{times: []LockTime{{Blocks: BlocksCommits | BlocksDDL}}}}
	stages := &Stages{lockConn: lockConn{held: true, times: []LockTime{{Blocks: StageStart.blocks()}, {Blocks: StageBlockDDL.blocks()}}}}
	for _, c := range []struct {
		d  Series
		by Held
	}{{Series{LogStatus: true}, tables}, {Series{LogStatus: true}, released}, {Series{}, instance}, {Series{}, released}, {Series{Stages: true}, stages}} {
		if _, err := (&Server{Series: c.d}).Moment(t.Context(), c.by, Wanted{}); !errors.Is(err, ErrLockLost) {
			t.Errorf("%+v: %v", c.by, err)
		}
	}
}

func TestUnverified(t *testing.T) {
	for _, c := range []struct {
		o    Options
		warn bool
	}{
		{Options{Network: "unix", Host: "db1"}, false}, {Options{Network: "tcp", Host: "localhost"}, false},
		{Options{Network: "tcp", Host: "127.0.0.2"}, false}, {Options{Network: "tcp", Host: "::1"}, false},
		{Options{Network: "tcp", Host: "db1"}, true}, {Options{Network: "tcp", Host: "10.0.0.1"}, true},
		{Options{Network: "tcp", Host: "db1", TLS: TLSOptions{Mode: TLSRequired}}, true},
		{Options{Network: "tcp", Host: "db1", TLS: TLSOptions{Mode: TLSVerifyCA}}, false},
		{Options{Network: "tcp", Host: "db1", TLS: TLSOptions{Mode: TLSVerifyIdentity}}, false},
		{Options{Network: "tcp", Host: "db1", TLS: TLSOptions{Mode: TLSDisabled}}, false},
	} {
		if text := c.o.Unverified(); (text != "") != c.warn {
			t.Errorf("%+v: %q", c.o, text)
		}
	}
}
