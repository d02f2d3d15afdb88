package login

import (
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
)

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
		{Flags{User: "x", Host: "h"}, "[client]\nssl-mode=x\n", "is not one of"},
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
