// Package login is how hb reaches a server: address, user, password and TLS, out of
// flags, the environment and option files. In go flags and an Env; Options come out,
// with where each is from. It connects to nothing, and no error or String of it holds
// a password.
package login

import (
	"fmt"
	"io"
	"time"
)

// A Secret is a password. It prints as stars in every way of printing.
type Secret struct{ text string }

// NewSecret wraps a password.
func NewSecret(s string) Secret { return Secret{s} }

// Reveal returns the password itself.
func (s Secret) Reveal() string { return s.text }

// Format prints stars whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, "***") }

// MarshalText keeps the password out of JSON and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Options say how to reach a server.
type Options struct {
	Network  string // "unix" or "tcp"
	Socket   string // path, for "unix"
	Host     string // for "tcp"
	Port     int    // for "tcp"
	User     string
	Password Secret
	TLS      TLSOptions

	// UserFrom and PasswordFrom are where the two are from, for messages: an
	// option, a variable, a line of an option file. "" is a password that is not set.
	UserFrom, PasswordFrom string
	// Overruled says that a password is set in two places, and which counts; "": it
	// is not, or both have the same.
	Overruled string
	// LoginFile is the clients' file of logins, which hb does not read, if there is one.
	LoginFile string

	// ConnectTimeout bounds the time until the server has answered; 0 means
	// DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// LockWait bounds each wait for a lock on the server, in whole seconds
	// (rounded up); 0 means DefaultLockWait. While hb waits for a stage,
	// later statements queue up behind it.
	LockWait time.Duration
}

// Defaults of Options.
const (
	DefaultPort           = 3306
	DefaultConnectTimeout = 10 * time.Second
	DefaultLockWait       = 60 * time.Second
)

// String is user and address, without the password.
func (o Options) String() string {
	if o.Network == "unix" {
		return fmt.Sprintf("%s at socket %s", o.User, o.Socket)
	}
	return fmt.Sprintf("%s at %s port %d", o.User, o.Host, o.Port)
}

// Flags are the command line's options of the connection. A zero field was not given.
type Flags struct {
	DefaultsFile        string `kong:"-"`
	DefaultsExtraFile   string `kong:"-"`
	DefaultsGroupSuffix string `kong:"-"`
	NoDefaults          bool   `kong:"-"`

	User                string        `short:"u" help:"User to connect as (default: your own name)."`
	Password            *Secret       `help:"Password. Prefer HB_PASSWORD, --password-file or an option file. Without a value, like -p: ask for it." placeholder:"PASSWORD"`
	AskPassword         bool          `short:"p" help:"Ask for the password on the terminal."`
	PasswordFile        string        `help:"Read the password from the first line of this file." placeholder:"FILE" type:"path"`
	Host                string        `short:"h" help:"Host to connect to; localhost means the socket (default: localhost). The server's files must be on this machine."`
	Port                int           `short:"P" help:"TCP port (default 3306)."`
	Socket              string        `short:"S" help:"Unix socket (default: the distributions' usual paths)." placeholder:"FILE"`
	Protocol            string        `help:"tcp or socket (default: follows from host and port)." enum:"tcp,socket," default:"" placeholder:"tcp|socket"`
	SSLMode             string        `name:"ssl-mode" help:"DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY (default: PREFERRED over TCP, which verifies nothing; DISABLED over a socket)." placeholder:"MODE" complete:"DISABLED,PREFERRED,REQUIRED,VERIFY_CA,VERIFY_IDENTITY"`
	SSLCA               string        `name:"ssl-ca" help:"Certificate authorities to trust (default: the system's)." placeholder:"FILE" type:"path"`
	SSLCert             string        `name:"ssl-cert" help:"Client certificate." placeholder:"FILE" type:"path"`
	SSLKey              string        `name:"ssl-key" help:"Key of the client certificate." placeholder:"FILE" type:"path"`
	SSLVerifyServerCert bool          `name:"ssl-verify-server-cert" help:"Check the server's certificate and name."`
	SkipSSL             bool          `name:"skip-ssl" help:"Do not use TLS."`
	ConnectTimeout      time.Duration `help:"How long to wait for the server's answer (default 10)." placeholder:"SECONDS"`
	LockWait            time.Duration `name:"lock-wait-timeout" help:"How long to wait for each backup lock (default 60)." placeholder:"SECONDS"`
}
