package stream

import (
	"bytes"
	"io"
	"testing"

	"filippo.io/age"
)

// FuzzOpen takes the stages off anything. The seeds are archives in all forms.
// What is read must be the same when it comes byte by byte.
func FuzzOpen(f *testing.F) {
	id := testIdentity(f)
	to := []age.Recipient{id.Recipient()}
	data, zst := archive(3000), &Compression{Level: 1, Threads: 1}
	for _, opts := range []WriteOptions{{}, {Compress: zst}, {Recipients: to}, {Compress: zst, Recipients: to}} {
		out := stages(f, opts, data)
		f.Add(out)
		f.Add(out[:len(out)-1])
	}
	f.Add(armored(f, stages(f, WriteOptions{Recipients: to}, data)))
	f.Add(stages(f, WriteOptions{Compress: zst}, stages(f, WriteOptions{Compress: zst}, data)))
	f.Add([]byte("\x50\x2a\x4d\x18\x02\x00\x00\x00ab"))
	const most = 16 << 20
	read := func(in io.Reader) (n int64, sum []byte, err error) {
		r, err := Open(in, Options{Identities: []age.Identity{id}, Passphrase: func(string) (string, error) { return "secret", nil }})
		if err != nil {
			return 0, nil, err
		}
		defer r.Close()
		var head bytes.Buffer
		n, err = io.Copy(&head, io.LimitReader(r, most))
		return n, head.Bytes(), err
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		n, data, err := read(bytes.NewReader(in))
		n2, data2, err2 := read(&dribble{in})
		if n != n2 || (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(data, data2) {
			t.Fatalf("read %d bytes, %v; byte by byte %d, %v", n, err, n2, err2)
		}
	})
}

// dribble gives a few bytes at a time.
type dribble struct{ rest []byte }

func (d *dribble) Read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 7)], d.rest)
	d.rest = d.rest[n:]
	return n, nil
}
