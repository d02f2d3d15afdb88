package login

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// A TLSMode is how much the connection demands of TLS. The zero mode is
// TLSPreferred over TCP and none over a socket.
type TLSMode int

// The modes, weakest first, by the names of MySQL's ssl-mode.
const (
	TLSDefault        TLSMode = iota
	TLSDisabled               // never
	TLSPreferred              // if the server has it; its certificate is not looked at
	TLSRequired               // always; its certificate is not looked at
	TLSVerifyCA               // and the certificate comes from the CA
	TLSVerifyIdentity         // and names the host
)

var tlsModes = map[string]TLSMode{
	"DISABLED": TLSDisabled, "PREFERRED": TLSPreferred, "REQUIRED": TLSRequired,
	"VERIFY_CA": TLSVerifyCA, "VERIFY_IDENTITY": TLSVerifyIdentity,
}

// TLSOptions are the TLS settings of a connection; the files are PEM.
type TLSOptions struct {
	Mode TLSMode
	CA   string // certificates to trust; empty means the system's
	Cert string // the client's own certificate
	Key  string // and its private key
}

// notSupportedTLS are options whose meaning would be lost if they were
// ignored: each one restricts what is trusted.
var notSupportedTLS = []string{"ssl-capath", "ssl-crl", "ssl-crlpath", "ssl-fp", "ssl-fplist"}

func (r resolver) tls(o *Options) error {
	for _, name := range notSupportedTLS {
		if opt, ok := r.set.Lookup(name); ok && opt.Value != "" {
			return fmt.Errorf("%v: hb does not support it; use ssl-ca with one file of certificates", opt)
		}
	}
	t := &o.TLS
	t.CA, _ = r.text(r.f.SSLCA, "ssl-ca")
	t.Cert, _ = r.text(r.f.SSLCert, "ssl-cert")
	t.Key, _ = r.text(r.f.SSLKey, "ssl-key")
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("ssl-cert and ssl-key belong together: one of them is missing")
	}
	mode, err := r.tlsMode(t)
	t.Mode = mode
	return err
}

// tlsMode finds the mode. A CA or a client certificate without a mode implies the
// mode that uses it, as in MySQL's clients.
func (r resolver) tlsMode(t *TLSOptions) (TLSMode, error) {
	if r.f.SkipSSL {
		return TLSDisabled, nil
	}
	if name := r.f.SSLMode; name != "" {
		return parseTLSMode(name)
	}
	if r.f.SSLVerifyServerCert {
		return TLSVerifyIdentity, nil
	}
	if opt, ok := r.set.Lookup("ssl-mode"); ok {
		return parseTLSMode(opt.Value)
	}
	on, set, err := r.set.Bool("ssl")
	if err != nil {
		return 0, err
	}
	if set && !on {
		return TLSDisabled, nil
	}
	verify, _, err := r.set.Bool("ssl-verify-server-cert")
	switch {
	case err != nil:
		return 0, err
	case verify:
		return TLSVerifyIdentity, nil
	case t.CA != "":
		return TLSVerifyCA, nil
	case on || t.Cert != "":
		return TLSRequired, nil
	}
	return TLSDefault, nil
}

func parseTLSMode(name string) (TLSMode, error) {
	m, ok := tlsModes[strings.ToUpper(strings.ReplaceAll(name, "-", "_"))]
	if !ok {
		return 0, fmt.Errorf("ssl-mode %q is not one of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY", name)
	}
	return m, nil
}

// Doubts are warnings about a connection that may be good.
func (o Options) Doubts() (out []string) {
	for _, text := range []string{o.Unverified(), o.Overruled} {
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}

// Unverified says that nothing proves who answers at the other end of a connection
// to another address than this machine's own; "" if something does, or if TLS was
// turned off on purpose.
func (o Options) Unverified() string {
	ip := net.ParseIP(o.Host)
	local := o.Network != "tcp" || o.Host == "localhost" || ip != nil && ip.IsLoopback()
	if local || o.TLS.Mode == TLSDisabled || o.TLS.Mode >= TLSVerifyCA {
		return ""
	}
	return fmt.Sprintf("the certificate of %s is not verified, so that somebody in between could answer for the server: "+
		"add --ssl-mode=VERIFY_IDENTITY, and --ssl-ca where the system does not know who signed it", o.Host)
}

// Config makes the driver's settings: nil for no TLS; fallback allows a server
// without TLS.
func (t TLSOptions) Config(network, host string) (c *tls.Config, fallback bool, err error) {
	mode := t.Mode
	if mode == TLSDefault && network == "tcp" {
		mode = TLSPreferred
	}
	if mode == TLSDefault || mode == TLSDisabled || (mode == TLSPreferred && network == "unix") {
		return nil, false, nil
	}
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if host == "" {
		c.ServerName = "localhost"
	}
	if t.CA != "" {
		if c.RootCAs, err = readCA(t.CA); err != nil {
			return nil, false, err
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, false, fmt.Errorf("client certificate %s with key %s: %w", t.Cert, t.Key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if mode < TLSVerifyIdentity {
		c.InsecureSkipVerify = true
	}
	if mode == TLSVerifyCA {
		c.VerifyConnection = verifyChain(c.RootCAs)
	}
	return c, mode == TLSPreferred, nil
}

// verifyChain checks that a certificate comes from the CA, whatever its name.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(st tls.ConnectionState) error {
		if len(st.PeerCertificates) == 0 {
			return errors.New("the server sent no certificate")
		}
		rest := x509.NewCertPool()
		for _, c := range st.PeerCertificates[1:] {
			rest.AddCert(c)
		}
		_, err := st.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest})
		return err
	}
}

// maxCAFile bounds a file of CA certificates, in bytes.
const maxCAFile = 4 << 20

func readCA(path string) (*x509.CertPool, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("ssl-ca: %w", err)
	}
	if st.Size() > maxCAFile {
		return nil, fmt.Errorf("ssl-ca %s is larger than %d bytes", path, maxCAFile)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ssl-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ssl-ca %s holds no PEM certificate", path)
	}
	return pool, nil
}
