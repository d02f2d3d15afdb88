package login

import (
	"cmp"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"syscall"

	"github.com/go-sql-driver/mysql"
)

// The server's reasons not to let a user in.
const (
	erTooManyConnections = 1040
	erWrongPassword      = 1045
	erNoPasswordGiven    = 1698
)

// Hint is advice on an error of connecting, or "".
func (o Options) Hint(err error) string {
	my, fromServer := errors.AsType[*mysql.MySQLError](err)
	switch {
	case fromServer && (my.Number == erWrongPassword || my.Number == erNoPasswordGiven):
		return o.deniedHint(my.Number)
	case fromServer && my.Number == erTooManyConnections:
		return "the server has no connection left; try later or raise max_connections"
	case fromServer && strings.Contains(my.Message, "require_secure_transport"):
		return "the server requires TLS or the socket: --ssl-mode=REQUIRED, or --socket"
	case errors.Is(err, mysql.ErrUnknownPlugin):
		return "the user's authentication plugin is not one hb knows; use a user of mysql_native_password, caching_sha2_password, sha256_password, ed25519 or unix_socket"
	case errors.Is(err, mysql.ErrNoTLS):
		return "the server has TLS turned off: give it a certificate (ssl_cert, ssl_key), or connect without (--ssl-mode=PREFERRED or DISABLED)"
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return "is the server running, and is this its address? See --socket, --host and --port"
	}
	return certificateHint(err)
}

// certificateHint is hint about the server's certificate.
func certificateHint(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "name the authority that signed the server's certificate with --ssl-ca; --ssl-mode=REQUIRED encrypts without verifying anything"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "connect to a name that the server's certificate has (--host); --ssl-mode=VERIFY_CA verifies the authority only"
	}
	return ""
}

// deniedHint names the credentials that hb used, and where they are from.
func (o Options) deniedHint(number uint16) string {
	text := "the user is from " + cmp.Or(o.UserFrom, "the program's options")
	switch {
	case o.PasswordFrom == "" && o.Password != NewSecret(""):
		text += ", and the password, too"
	case o.PasswordFrom != "":
		text += ", the password from " + o.PasswordFrom
	case o.LoginFile != "":
		text += "\nno password is set, and hb does not read " + o.LoginFile + ": put it into an option file or HB_PASSWORD"
	default:
		text += "\nno password is set: see --password-file, HB_PASSWORD and option files"
	}
	if number == erNoPasswordGiven {
		text += "\nan account of auth_socket or unix_socket lets in only the system's user of that name: run hb as that user"
	}
	switch {
	case o.Network == "unix" && o.TLS.Mode == TLSDefault, o.TLS.Mode == TLSDisabled:
		text += "\nTLS was not used, which an account with REQUIRE SSL or X509 demands: --ssl-mode=REQUIRED"
	case o.TLS.Cert == "":
		text += "\nno client certificate was shown, which an account with REQUIRE X509 demands: --ssl-cert and --ssl-key"
	}
	return text
}
