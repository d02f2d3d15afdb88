package mysqldtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Options say how a server is initialised and started.
type Options struct {
	// Dir is the directory for the server's files; it is made if it is not
	// there. Empty means a new temporary directory.
	Dir string

	// Datadir is where Start and Launch make the data directory: an absolute path,
	// not there yet or empty. Empty means in Dir.
	Datadir string

	// PageSize is innodb_page_size in bytes; 0 leaves the server's default.
	PageSize int

	// Init holds lines for [mysqld] that must be there from initialisation on,
	// such as "innodb-undo-tablespaces=3". With a "/" in one of them the data
	// directory is initialised in place, otherwise from a cached template.
	Init []string

	// Config holds lines for [mysqld] that only a running server needs. They
	// come last, so they win.
	Config []string

	// Binlog makes the server write a binary log ("binlog", row format, GTIDs
	// where the flavour must be told) and listen on TCP, so that a replica can
	// attach to it.
	Binlog bool

	// TCP makes the server listen on a free port of 127.0.0.1.
	TCP bool

	// TLS lets the server make keys for TLS, where it does so by itself. Without,
	// MariaDB has no TLS, and MySQL has it where its data directory has keys.
	TLS bool

	// Address and Port say where else it listens, if it does.
	Address string
	Port    int

	// Keyring is the file where MySQL keeps its keys, with component_keyring_file: an
	// absolute path. Empty means without keys.
	Keyring string

	// Within makes of the command that starts the server the one that is run, such
	// as one in a namespace. It must become the server, not its parent.
	Within func(*exec.Cmd) *exec.Cmd

	// ServerID is server_id; 0 means 1.
	ServerID int
}

func (o *Options) tcp() bool { return o.TCP || o.Binlog }

// initLines returns the lines that hold for initialisation and run alike.
func (o *Options) initLines() []string {
	lines := o.Init
	if o.PageSize != 0 {
		lines = append([]string{fmt.Sprintf("innodb-page-size=%d", o.PageSize)}, lines...)
	}
	return lines
}

// baseLines returns what a server of this root needs to start from its own
// directory tree on datadir, and nothing from this machine's configuration.
func (r *Root) baseLines(datadir, errorLog, tmp string) []string {
	return append(r.Lines(), "datadir="+datadir, "log-error="+errorLog, "tmpdir="+tmp)
}

// Lines returns the lines for [mysqld] without which no server of this root
// starts, whatever its data directory is.
func (r *Root) Lines() []string {
	lines := []string{
		"user=root",
		"basedir=" + r.basedir(),
		"lc-messages-dir=" + r.share,
		"character-sets-dir=" + filepath.Join(r.share, "charsets"),
		"plugin-dir=" + r.plugins,
		"secure-file-priv=",
	}
	switch {
	case r.MariaDB():
	case r.AtLeast(8, 0):
		lines = append(lines, "mysqlx=0")
	case !r.AtLeast(5, 7): // else it makes COMPACT of COMPRESSED and DYNAMIC, silently
		lines = append(lines, "innodb-file-format=Barracuda", "innodb-strict-mode=ON")
	}
	return lines
}

func (r *Root) basedir() string {
	if d := filepath.Join(r.Dir, "opt", "mysql"); dirExists(d) {
		return d
	}
	return filepath.Join(r.Dir, "usr")
}

// noKeys keeps a server from making keys as it starts, which takes up to ten
// seconds. MySQL uses those that are in its data directory, as from a template.
func (r *Root) noKeys() []string {
	if r.MariaDB() {
		return []string{"ssl=OFF"}
	}
	return []string{
		"loose-auto-generate-certs=OFF", "loose-sha256-password-auto-generate-rsa-keys=OFF",
		"loose-caching-sha2-password-auto-generate-rsa-keys=OFF",
	}
}

// runLines returns what a running server has beyond its base.
func (r *Root) runLines(s *Server, o *Options) []string {
	id := o.ServerID
	if id == 0 {
		id = 1
	}
	lines := []string{
		"socket=" + s.Socket,
		"pid-file=" + filepath.Join(s.Dir, "mysqld.pid"),
		fmt.Sprintf("server-id=%d", id),
		"skip-name-resolve",
		"relay-log=relay",
	}
	if !o.TLS {
		lines = append(lines, r.noKeys()...)
	}
	if o.tcp() {
		lines = append(lines, "bind-address="+s.Address, fmt.Sprintf("port=%d", s.Port))
	} else {
		lines = append(lines, "port=0", "skip-networking")
	}
	if o.Binlog {
		lines = append(lines, "log-bin=binlog", "binlog-format=ROW", "log-slave-updates=ON")
		if !r.MariaDB() {
			lines = append(lines, "gtid-mode=ON", "enforce-gtid-consistency=ON")
		}
	} else if !r.MariaDB() && r.AtLeast(8, 0) {
		lines = append(lines, "skip-log-bin")
	}
	return lines
}

// writeConfig writes the defaults file of s. Its [client] group lets the root's
// tools connect with nothing but --defaults-file.
func (r *Root) writeConfig(s *Server, o *Options) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[client]\nuser=root\nsocket=%s\n", s.Socket)
	if r.MariaDB() && !o.TLS {
		b.WriteString("skip-ssl\n") // clients since 11.4 demand it otherwise
	}
	b.WriteString("\n[mysqld]\n")
	for _, lines := range [][]string{
		r.baseLines(s.Datadir, s.errorLog, s.tmp), r.runLines(s, o), s.keyringLines(o), o.initLines(), o.Config,
	} {
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
	}
	if err := os.WriteFile(s.DefaultsFile, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the server's defaults file: %w", err)
	}
	return nil
}

func dirExists(d string) bool {
	fi, err := os.Stat(d)
	return err == nil && fi.IsDir()
}
