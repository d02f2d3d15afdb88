package login

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hb/source/mysqld/login/optfile"
)

// An Env is the environment outside of the flags.
type Env struct {
	Getenv func(string) string // nil means os.Getenv
	// Environ lists the environment as os.Environ does; nil means that nothing is
	// known of variables that nobody asks for.
	Environ func() []string
	// AskPassword prompts on the terminal; nil means that there is no terminal.
	AskPassword func(prompt string) (Secret, error)
	UID         int
	// Options are the options in option files, if these were read already.
	Options *optfile.Set
	// System replaces the list of system-wide option files; nil means
	// optfile.SystemFiles.
	System []string
	// Sockets are tried in turn if no socket is named; nil means
	// DefaultSockets.
	Sockets []string
}

// DefaultSockets are where distributions put the server's socket: Debian and
// Ubuntu, Red Hat, SUSE, and the servers' own built-in default.
var DefaultSockets = []string{"/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/run/mysql/mysql.sock", "/tmp/mysql.sock"}

// OSEnv is the environment of the process.
func OSEnv() Env { return Env{Getenv: os.Getenv, Environ: os.Environ, UID: os.Getuid()} }

// Groups are the option groups that hb reads. A later group does not win over
// an earlier one: the order of the files decides, as in the servers' clients.
var Groups = []string{"client", "client-server", "client-mariadb", "hb"}

// FileOptions are the options that Resolve looks for in option files. The last of
// password and password-file counts.
var FileOptions = slices.Concat([]string{
	"user", "host", "port", "socket", "protocol", "connect-timeout", "password", "password-file",
	"ssl", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "ssl-verify-server-cert",
}, notSupportedTLS)

// variables are the environment's variables that Resolve looks at: hb's own before
// option files, those of the servers' clients after them, as the clients do (seen
// with the client of MariaDB 10.11.18).
var variables = map[string][]string{
	"host": {"MYSQL_HOST"}, "port": {"MYSQL_TCP_PORT"}, "socket": {"MYSQL_UNIX_PORT"}, "password": {"HB_PASSWORD", "MYSQL_PWD"},
}

// Variables are the environment's variables that Resolve takes an option from, the
// first that is not empty counting.
func Variables(option string) []string { return variables[option] }

// The kinds of variables.
const (
	ownVariables     = true
	clientsVariables = false
)

// variable returns the environment's value of an option and the variable's name, of
// the variables of one kind.
func (e Env) variable(option string, kind bool) (value, name string) {
	for _, name := range variables[option] {
		if strings.HasPrefix(name, "HB_") != kind {
			continue
		}
		if v := e.Getenv(name); v != "" {
			return v, name
		}
	}
	return "", ""
}

// find returns the value of an option that no flag sets, and where it is from; o is
// the option where that is a file.
func (e Env) find(option string, set *optfile.Set) (value, origin string, o optfile.Option) {
	if v, name := e.variable(option, ownVariables); name != "" {
		return v, name, o
	}
	if o, ok := set.Lookup(option); ok {
		return o.Value, o.Place(), o
	}
	value, origin = e.variable(option, clientsVariables)
	return value, origin, o
}

// An Inherited is an option that Resolve takes from the environment or from option
// files, if no flag overrides it.
type Inherited struct {
	Name, Value string // Value is empty if Secret
	Origin      string // a variable's name, or the option's place
	Secret      bool
}

// Inherited returns what Resolve takes from environment and option files.
func (e Env) Inherited() (out []Inherited) {
	for _, name := range FileOptions {
		value, origin, o := e.find(name, e.Options)
		if origin == "" {
			continue
		}
		i := Inherited{Name: name, Value: value, Origin: origin, Secret: name == "password"}
		if name == "ssl" || name == "ssl-verify-server-cert" {
			if on, err := o.Bool(); err == nil {
				i.Value = map[bool]string{true: "1", false: "0"}[on]
			}
		}
		if i.Secret {
			i.Value = ""
		}
		out = append(out, i)
	}
	return out
}

// Resolve makes Options of flags, environment and option files, in this order
// of precedence:
//
//   - flags;
//   - HB_PASSWORD of the environment;
//   - option files (package optfile), groups Groups, the last setting winning;
//   - the variables of the servers' clients: MYSQL_PWD, MYSQL_HOST,
//     MYSQL_TCP_PORT, MYSQL_UNIX_PORT.
//
// The host "localhost", or none, means the socket, as in the servers' clients, unless
// the flags have protocol=tcp, or a port but no socket. The set of options is returned
// too: [hb] may hold settings that are not about the connection.
func Resolve(f Flags, env Env) (Options, *optfile.Set, error) {
	if env.Getenv == nil {
		env.Getenv = os.Getenv
	}
	set := env.Options
	if set == nil {
		var err error
		if set, err = (optfile.Source{
			DefaultsFile: f.DefaultsFile, ExtraFile: f.DefaultsExtraFile, NoDefaults: f.NoDefaults,
			GroupSuffix: f.DefaultsGroupSuffix, Groups: Groups, Getenv: env.Getenv, System: env.System,
		}).Load(); err != nil {
			return Options{}, nil, err
		}
	}
	r := resolver{f: f, env: env, set: set}
	o := Options{ConnectTimeout: f.ConnectTimeout, LockWait: f.LockWait}
	for _, step := range []func(*Options) error{r.user, r.timeout, r.address, r.tls, r.password} {
		if err := step(&o); err != nil {
			return Options{}, set, err
		}
	}
	return o, set, nil
}

type resolver struct {
	f   Flags
	env Env
	set *optfile.Set
}

// text returns the value that counts, and where it is from.
func (r resolver) text(flag, option string) (value, origin string) {
	if flag != "" {
		return flag, "--" + option
	}
	value, origin, _ = r.env.find(option, r.set)
	return value, origin
}

func (r resolver) user(o *Options) error {
	o.User, o.UserFrom = r.text(r.f.User, "user")
	if o.User == "" && r.env.UID == 0 {
		o.User, o.UserFrom = "root", "the user that runs hb"
	}
	for _, name := range []string{"USER", "LOGNAME"} {
		if o.User == "" {
			o.User, o.UserFrom = r.env.Getenv(name), name
		}
	}
	if o.User == "" {
		return errors.New("no user name for the server: name one with --user")
	}
	return nil
}

// maxConnectTimeout bounds connect-timeout, in seconds, as the clients do.
const maxConnectTimeout = 3600 * 12

func (r resolver) timeout(o *Options) error {
	if o.ConnectTimeout > 0 {
		return nil
	}
	o.ConnectTimeout = DefaultConnectTimeout
	if opt, ok := r.set.Lookup("connect-timeout"); ok {
		n, err := strconv.Atoi(opt.Value)
		if err != nil || n < 1 || n > maxConnectTimeout {
			return fmt.Errorf("%v: not a number of seconds from 1 to %d", opt, maxConnectTimeout)
		}
		o.ConnectTimeout = time.Duration(n) * time.Second
	}
	return nil
}

func (r resolver) address(o *Options) error {
	o.Host, _ = r.text(r.f.Host, "host")
	port, err := r.port()
	if err != nil {
		return err
	}
	o.Port = port
	protocol, _ := r.text(r.f.Protocol, "protocol")
	protocol = strings.ToLower(protocol)
	switch {
	case protocol == "tcp":
	case protocol == "socket" || protocol == "unix":
		return r.socket(o)
	case protocol != "":
		return fmt.Errorf("protocol %q is neither tcp nor socket", protocol)
	case o.Host == "" || o.Host == "localhost":
		if r.f.Port == 0 || r.f.Socket != "" {
			return r.socket(o)
		}
	}
	o.Network = "tcp"
	if o.Host == "" {
		o.Host = "localhost"
	}
	return nil
}

func (r resolver) port() (int, error) {
	if r.f.Port != 0 {
		if r.f.Port < 1 || r.f.Port > 65535 {
			return 0, fmt.Errorf("port %d is not from 1 to 65535", r.f.Port)
		}
		return r.f.Port, nil
	}
	text, where, opt := r.env.find("port", r.set)
	switch {
	case text == "" && where == "", opt.Value == "0":
		return DefaultPort, nil
	case opt.Value != "":
		where = opt.String()
	default:
		where = "the environment's " + where
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("%s: not a port from 1 to 65535", where)
	}
	return n, nil
}

// NoSocketError says that no server's socket is where they usually are. The server
// may not run.
type NoSocketError struct{ Looked []string }

func (e *NoSocketError) Error() string {
	return fmt.Sprintf("no server socket at %s: is the server running? Use --socket or --host", strings.Join(e.Looked, ", "))
}

func (r resolver) socket(o *Options) error {
	o.Network = "unix"
	o.Socket, _ = r.text(r.f.Socket, "socket")
	if o.Socket != "" {
		return nil
	}
	list := r.env.Sockets
	if list == nil {
		list = DefaultSockets
	}
	i := slices.IndexFunc(list, func(p string) bool {
		st, err := os.Stat(p)
		return err == nil && st.Mode().Type() == fs.ModeSocket
	})
	if i < 0 {
		return &NoSocketError{list}
	}
	o.Socket = list[i]
	return nil
}

// maxPasswordFile bounds a password file, in bytes.
const maxPasswordFile = 64 << 10

func (r resolver) password(o *Options) (err error) {
	if o.Password, o.PasswordFrom, err = r.findPassword(*o); err != nil {
		return err
	}
	v, name := r.env.variable("password", clientsVariables)
	asked := r.f.Password != nil || r.f.PasswordFile != "" || r.f.AskPassword
	if v != "" && o.PasswordFrom != "" && v != o.Password.Reveal() && !asked {
		o.Overruled = fmt.Sprintf("the password in %s counts, and another in %s does not", o.PasswordFrom, name)
	}
	if file := cmp.Or(r.env.Getenv("MYSQL_TEST_LOGIN_FILE"), filepath.Join(r.env.Getenv("HOME"), ".mylogin.cnf")); filepath.IsAbs(file) {
		if _, err := os.Stat(file); err == nil {
			o.LoginFile = file
		}
	}
	return nil
}

// findPassword returns the password that counts, and where it is from.
func (r resolver) findPassword(o Options) (s Secret, origin string, err error) {
	const terminal = "the terminal"
	switch {
	case r.f.Password != nil:
		return *r.f.Password, "--password", nil
	case r.f.PasswordFile != "":
		s, err = readPasswordFile(r.f.PasswordFile)
		return s, r.f.PasswordFile, err
	case r.f.AskPassword:
		s, err = r.ask(o)
		return s, terminal, err
	}
	if v, name := r.env.variable("password", ownVariables); name != "" {
		return NewSecret(v), name, nil
	}
	opt, ok := r.set.Lookup("password", "password-file")
	switch {
	case !ok:
		v, name := r.env.variable("password", clientsVariables)
		return NewSecret(v), name, nil
	case opt.Setting().Off:
		return s, "", nil
	case opt.Setting().Name == "password-file":
		s, err = readPasswordFile(opt.Value)
		return s, opt.Value, err
	case !opt.HasValue:
		s, err = r.ask(o)
		return s, terminal, err
	}
	return NewSecret(opt.Value), opt.Place(), nil
}

func (r resolver) ask(o Options) (Secret, error) {
	if r.env.AskPassword == nil {
		return Secret{}, errors.New("there is no terminal to ask for the password: put it into HB_PASSWORD, a password file or an option file")
	}
	s, err := r.env.AskPassword(fmt.Sprintf("Password of %v: ", o))
	if err != nil {
		return Secret{}, fmt.Errorf("ask for the password: %w", err)
	}
	return s, nil
}

func readPasswordFile(path string) (s Secret, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, fmt.Errorf("password file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, maxPasswordFile+1))
	if err != nil {
		return s, fmt.Errorf("password file: %w", err)
	}
	if len(text) > maxPasswordFile {
		return s, fmt.Errorf("password file %s is larger than %d bytes", path, maxPasswordFile)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return NewSecret(strings.TrimSuffix(line, "\r")), nil
}
