package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"hb/stream/remote/remotetest"
)

const secret = remotetest.Secret

type server struct {
	*remotetest.Server
	t *testing.T
}

func newServer(t *testing.T, data []byte) *server {
	return &server{remotetest.New(t, data), t}
}

func (s *server) address() string { return s.Address("backup.hb") }

// open opens the server's object; pauses take no time, and are counted.
func (s *server) open(ctx context.Context, n int64) (*Object, *[]time.Duration, error) {
	pauses := new([]time.Duration)
	client := newClient()
	client.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	o, err := open(ctx, client, func(_ context.Context, d time.Duration) error { *pauses = append(*pauses, d); return nil }, s.address(), n)
	if err == nil {
		s.t.Cleanup(func() { _ = o.Close() })
	} else if strings.Contains(err.Error(), secret) {
		s.t.Errorf("the error shows a secret: %v", err)
	}
	return o, pauses, err
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}

// TestResume: whatever connections break, the bytes are those of the object.
func TestResume(t *testing.T) {
	data := random(3 << 20)
	for _, cut := range []int{0, 1 << 20, 100_000} {
		s := newServer(t, data)
		s.Cut = cut
		o, _, err := s.open(t.Context(), -1)
		if err != nil {
			t.Fatal(err)
		}
		if o.Size() != int64(len(data)) || !o.Ranged() {
			t.Errorf("%d bytes, ranged %v", o.Size(), o.Ranged())
		}
		r := o.Reader()
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("cut after %d: %d bytes, %v", cut, len(got), err)
		}
		for _, span := range [][2]int64{{0, 10}, {5000, 1}, {1 << 20, 1 << 20}, {3<<20 - 7, 7}} {
			r, err := o.Range(span[0], span[1])
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(r, data[span[0]:span[0]+span[1]]); err != nil {
				t.Errorf("%v: %v", span, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if cut == 0 && len(s.Requests) != 5 { // the first is that of all
			t.Errorf("%d requests: %q", len(s.Requests), s.Requests)
		}
	}
}

// TestFirst: what Open asks for is used by the first range.
func TestFirst(t *testing.T) {
	s := newServer(t, random(1<<20))
	o, _, err := s.open(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.Range(0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, s.Data[:1000]) {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if want := "[bytes=0-999]"; fmt.Sprint(s.Requests) != want {
		t.Errorf("%v, want %s", s.Requests, want)
	}
}

// TestReplaced: an object that becomes another one is noticed, by its tag, by its time,
// and by its size.
func TestReplaced(t *testing.T) {
	for name, replace := range map[string]func(s *server){
		"tag":                        func(s *server) { s.Tag = `"two"` },
		"longer":                     func(s *server) { s.Data = append(s.Data, 1) },
		"shorter":                    func(s *server) { s.Data = s.Data[:1000] },
		"gone":                       func(s *server) { s.Busy = []int{http.StatusNotFound} },
		"expired":                    func(s *server) { s.Busy = []int{http.StatusForbidden} },
		"no range requests any more": func(s *server) { s.NoRange = true },
	} {
		s := newServer(t, random(1<<20))
		o, _, err := s.open(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		s.Do(func() { replace(s) })
		r, err := o.Range(500_000, 1000)
		if err == nil {
			_, err = io.ReadAll(r)
		}
		_, replaced := errors.AsType[*ReplacedError](err)
		_, address := errors.AsType[*AddressError](err)
		if err == nil || strings.Contains(err.Error(), secret) ||
			replaced != (name == "tag" || name == "longer" || name == "shorter") || address != (name == "gone" || name == "expired") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBusy: answers that may be others later are asked for again, longer each time, and
// not for ever.
func TestBusy(t *testing.T) {
	s := newServer(t, random(1000))
	s.Busy = []int{503, 429, 500}
	o, pauses, err := s.open(t.Context(), -1)
	if err != nil || len(*pauses) != 3 {
		t.Fatalf("%v after %v", err, *pauses)
	}
	for i, d := range *pauses {
		if least := firstWait << i / 2; d < least || d > 3*least {
			t.Errorf("pause %d is %v", i, d)
		}
	}
	if got, err := io.ReadAll(o.Reader()); err != nil || len(got) != 1000 {
		t.Error(err)
	}
	s.Busy = bytes2(503, 100)
	*pauses = nil
	r, err := o.Range(0, 10)
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if err == nil || !strings.Contains(err.Error(), "503") || len(*pauses) != maxAttempts-1 {
		t.Errorf("%v after %d pauses", err, len(*pauses))
	}
	if _, pauses, err := s.open(t.Context(), -1); err == nil || pauses == nil {
		t.Error("a server that is always busy is opened")
	}
	s.Busy = []int{http.StatusForbidden}
	if _, pauses, err := s.open(t.Context(), -1); err == nil || len(*pauses) > 0 {
		t.Errorf("forbidden: %v", err)
	}
}

func bytes2(status, n int) (list []int) {
	for range n {
		list = append(list, status)
	}
	return list
}

// TestBroken: connections that always break are an error of the network, and not a cut
// archive, nor a reader that has gone.
func TestBroken(t *testing.T) {
	s := newServer(t, random(1<<20))
	o, pauses, err := s.open(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	s.Do(func() { s.Cut = 1 }) // after no byte
	r, err := o.Range(500_000, 1000)
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if _, ok := errors.AsType[*NetworkError](err); !ok || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || len(*pauses) != maxAttempts-1 {
		t.Errorf("%v after %d pauses", err, len(*pauses))
	}
}

// TestNoRanges: a server without range requests gives all of an object, and cannot go on.
func TestNoRanges(t *testing.T) {
	s := newServer(t, random(200_000))
	s.NoRange = true
	o, _, err := s.open(t.Context(), -1)
	if err != nil || o.Ranged() {
		t.Fatalf("ranged %v, %v", o.Ranged(), err)
	}
	if got, err := io.ReadAll(o.Reader()); err != nil || !bytes.Equal(got, s.Data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	s.Cut = 100_000
	if o, _, err = s.open(t.Context(), -1); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(o.Reader()); err == nil || !strings.Contains(err.Error(), "does not answer range requests") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestEmpty(t *testing.T) {
	s := newServer(t, nil)
	s.Tag = ""
	for _, n := range []int64{-1, 100} {
		o, _, err := s.open(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(o.Reader()); err != nil || len(got) > 0 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}

// TestRefused: addresses that hb does not read, and what it says of them.
func TestRefused(t *testing.T) {
	s := newServer(t, random(10))
	plain := httptest.NewServer(s)
	t.Cleanup(plain.Close)
	away := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/x?"+secret, http.StatusFound))
	t.Cleanup(away.Close)
	round := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path+"x?"+secret, http.StatusFound)
	}))
	t.Cleanup(round.Close)
	for address, want := range map[string]string{
		plain.URL + "/a?" + secret: "https:// only", "https:///x?" + secret: "not a valid address", "https://me:" + secret + "@host/x": "a user is not supported",
		"https://host/%zz?" + secret:      "not a valid address",
		away.URL + "/a?" + secret:         "redirects to an address that is not https",
		round.URL + "/a?" + secret:        "redirects too often",
		s.URL + "/a?other&" + secret:      "403",
		"https://127.0.0.1:1/a?" + secret: "refused",
	} {
		client := newClient()
		client.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
		_, err := open(t.Context(), client, func(context.Context, time.Duration) error { return nil }, address, -1)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	// Without the server's certificate, and at once.
	if _, err := Open(t.Context(), s.address(), -1); err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), secret) {
		t.Errorf("an unknown certificate: %v", err)
	}
}

// TestCancel: a reader that waits ends with its context.
func TestCancel(t *testing.T) {
	s := newServer(t, random(1<<20))
	s.Cut = 1000
	errStop := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	o, _, err := s.open(ctx, 100)
	if err != nil {
		t.Fatal(err)
	}
	o.pause = func(ctx context.Context, _ time.Duration) error { cancel(errStop); return sleep(ctx, time.Hour) }
	r, err := o.Range(1000, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, errStop) {
		t.Error(err)
	}
}

func TestName(t *testing.T) {
	for address, want := range map[string]string{
		"https://h:1/a/b.hb?x=" + secret + "#y": "https://h:1/a/b.hb", "https://u:" + secret + "@h/b": "https://h/b", "https://h/%zz?" + secret: "https://...",
	} {
		if got := Name(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
	for name, want := range map[string]bool{"https://h/a": true, "HTTP://h": true, "backup.hb": false, "/a://b": false, "s3://b/k": false} {
		if Is(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
