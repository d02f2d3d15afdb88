// Package remote reads objects over https, such as a presigned URL of any object store:
// any range of them, with retries that go on at the byte where a connection broke.
//
// An address may carry a signature or a token in its query. So no error and no message
// has it, except for scheme, host and path.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAttempts is how often in a row a request may fail, or its answer break off,
	// before a byte has come.
	maxAttempts = 8
	// firstAttempts is that before the server has answered at all: about 4 seconds.
	firstAttempts = 4
	// firstWait is how long to wait after the first failure; it doubles with each, up
	// to maxWait, which also bounds what a server asks for.
	firstWait = time.Second / 2
	maxWait   = time.Minute
	// stallTime is how long a server may send nothing before the connection is given
	// up.
	stallTime = time.Minute
	// maxRedirects bounds how often a server may point elsewhere.
	maxRedirects = 5
)

// Is reports whether an archive's name is an address and not a file's.
func Is(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	return ok && (strings.EqualFold(scheme, "https") || strings.EqualFold(scheme, "http"))
}

// Name is an address without what may be secret in it.
func Name(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "https://..."
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// AddressError is an address that names no object: of another kind, or the server says
// that there is none, or that it may not be read.
type AddressError struct{ Name, Reason string }

func (e *AddressError) Error() string { return e.Name + ": " + e.Reason }

// ReplacedError is an object that became another one while it was read.
type ReplacedError struct{ Name, Want, Got string }

func (e *ReplacedError) Error() string {
	return fmt.Sprintf("%s was replaced while it was read: it was %s and is %s now; start again", e.Name, e.Want, e.Got)
}

// Object is something that a server has under an address. It belongs to one goroutine,
// and so do the readers of its ranges.
type Object struct {
	ctx     context.Context
	client  *http.Client
	address string
	name    string
	pause   func(context.Context, time.Duration) error // between attempts

	version string // what tells it from another one: entity tag, or time; and size
	size    int64  // bytes; -1: not known
	ranged  bool   // the server answers range requests
	first   *answer
}

// answer is the body of an answer, from an offset on.
type answer struct {
	io.ReadCloser
	off, end int64 // end -1: not known
}

// Open asks for the first n bytes of the object, or for all of them if n is below 0: the
// first range that is read then needs no other request. Reads end when ctx does.
func Open(ctx context.Context, address string, n int64) (*Object, error) {
	return open(ctx, newClient(), sleep, address, n)
}

func open(ctx context.Context, client *http.Client, pause func(context.Context, time.Duration) error, address string, n int64) (*Object, error) {
	u, err := url.Parse(address)
	o := &Object{ctx: ctx, client: client, address: address, name: Name(address), pause: pause, size: -1}
	switch {
	case err != nil || u.Host == "":
		return nil, &AddressError{o.name, "it is not a valid address"}
	case u.Scheme != "https":
		return nil, &AddressError{o.name, "hb reads https:// only, which nobody on the way can change"}
	case u.User != nil:
		return nil, &AddressError{o.name, "an address with a user is not supported: use a presigned one"}
	}
	r := &reader{o: o, end: n}
	if o.first, err = r.start(); err != nil {
		return nil, err
	}
	return o, nil
}

// newClient is the client of hb: with the system's certificates, and its proxy.
func newClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // ranges are of the object, not of what it is packed to
	t.ResponseHeaderTimeout = stallTime
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		switch {
		case r.URL.Scheme != "https":
			return redirectError("it redirects to an address that is not https")
		case len(via) > maxRedirects:
			return redirectError("it redirects too often")
		}
		return nil
	}}
}

// Size is how many bytes the object has; below 0: the server does not say.
func (o *Object) Size() int64 { return o.size }

// Ranged reports whether the server answers range requests. Else only all of the object
// can be read, and not resumed.
func (o *Object) Ranged() bool { return o.ranged }

// Range opens n bytes from off on.
func (o *Object) Range(off, n int64) (io.ReadCloser, error) {
	r := &reader{o: o, off: off, end: off + n}
	if a := o.first; a != nil && a.off == off && (a.end < 0 || a.end >= r.end) {
		o.first, r.cur = nil, a
	}
	return r, nil
}

// Reader reads all of the object.
func (o *Object) Reader() io.ReadCloser {
	r := &reader{o: o, end: o.size}
	o.first, r.cur = nil, o.first
	return r
}

// Close releases what Open got and nobody read.
func (o *Object) Close() error {
	defer o.client.CloseIdleConnections()
	if o.first == nil {
		return nil
	}
	a := o.first
	o.first = nil
	return a.Close()
}

// request asks for the object from off on, up to end; below 0: all the rest.
func (o *Object) request(ctx context.Context, off, end int64) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.address, nil)
	if err != nil {
		return nil, permanent{o.fault(err)}
	}
	last := ""
	if end >= 0 {
		last = strconv.FormatInt(end-1, 10)
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%s", off, last))
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "hb")
	res, err := o.client.Do(req)
	if err != nil {
		return nil, o.fault(err)
	}
	a, err := o.answered(res, off)
	if err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	return a, nil
}

// fault is an error of the client without the address, whose query it would show.
func (o *Object) fault(err error) error {
	for {
		e, ok := errors.AsType[*url.Error](err)
		if !ok {
			break
		}
		err = e.Err
	}
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, redirect := errors.AsType[redirectError](err)
	name, unknown := errors.AsType[*net.DNSError](err)
	err = fmt.Errorf("%s: %w", o.name, err)
	if certificate || redirect || unknown && name.IsNotFound || errors.Is(err, http.ErrSchemeMismatch) {
		return permanent{err}
	}
	return err
}

// redirectError is why hb does not go where a server points.
type redirectError string

func (e redirectError) Error() string { return string(e) }

// answered takes what the server says to a request from off on.
func (o *Object) answered(res *http.Response, off int64) (*answer, error) {
	switch res.StatusCode {
	case http.StatusPartialContent:
		return o.partial(res, off)
	case http.StatusOK:
		return o.whole(res, off)
	case http.StatusRequestedRangeNotSatisfiable:
		if off == 0 && o.version == "" && res.Header.Get("Content-Range") == "bytes */0" {
			o.size, o.ranged = 0, true
			return &answer{ReadCloser: res.Body}, nil
		}
		return nil, permanent{&ReplacedError{o.name, o.version, "shorter"}}
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, &busyError{o.name, res.Status, retryAfter(res)}
	}
	reason := "the server answers " + res.Status
	if off > 0 && (res.StatusCode == http.StatusForbidden || res.StatusCode == http.StatusUnauthorized) {
		reason += fmt.Sprintf(" after %d bytes: a presigned address may have expired", off)
	}
	return nil, permanent{&AddressError{o.name, reason}}
}

// partial takes a range of the object.
func (o *Object) partial(res *http.Response, off int64) (*answer, error) {
	from, end, size, err := contentRange(res.Header.Get("Content-Range"))
	if err != nil || from != off {
		return nil, permanent{fmt.Errorf("%s: the server answers with another range than the one from byte %d: %q", o.name, off, res.Header.Get("Content-Range"))}
	}
	if err := o.is(res, size); err != nil {
		return nil, err
	}
	o.ranged = true
	return &answer{res.Body, off, end}, nil
}

// whole takes all of the object, from a server that does not answer range requests.
func (o *Object) whole(res *http.Response, off int64) (*answer, error) {
	if err := o.is(res, res.ContentLength); err != nil {
		return nil, err
	}
	if off > 0 {
		return nil, permanent{fmt.Errorf("%s: the server does not answer range requests, so that reading cannot go on at byte %d", o.name, off)}
	}
	return &answer{res.Body, 0, res.ContentLength}, nil
}

// is makes sure that the object is the one that was opened.
func (o *Object) is(res *http.Response, size int64) error {
	version := res.Header.Get("ETag")
	if version == "" {
		version = res.Header.Get("Last-Modified")
	}
	version = strings.TrimSpace(fmt.Sprintf("%d bytes %s", size, version))
	if o.version == "" {
		o.version, o.size = version, size
	}
	if version != o.version {
		return permanent{&ReplacedError{o.name, o.version, version}}
	}
	return nil
}

// contentRange reads "bytes 0-99/1234"; end is the byte after the range.
func contentRange(s string) (from, end, size int64, err error) {
	var last int64
	if _, err := fmt.Sscanf(s, "bytes %d-%d/%d", &from, &last, &size); err != nil {
		return 0, 0, 0, err
	}
	if from < 0 || last < from || size <= last {
		return 0, 0, 0, errors.New("out of order")
	}
	return from, last + 1, size, nil
}

func retryAfter(res *http.Response) time.Duration {
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, 3600))*time.Second, maxWait)
}
