package stream

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// BenchmarkZstd measures the stage by itself, in and out.
func BenchmarkZstd(b *testing.B) {
	data := archive(64 << 20)
	for _, level := range []int{1, 3} {
		b.Run(fmt.Sprintf("compress/%d", level), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				w, err := Create(io.Discard, WriteOptions{Compress: &Compression{Level: level}})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := w.Write(data); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	packed := stages(b, WriteOptions{Compress: &Compression{}}, data)
	b.Run("decompress", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			r, err := Open(bytes.NewReader(packed), Options{})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
