package cbc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"math/rand/v2"
	"testing"
)

// TestDecrypt compares with crypto/cipher: each size of key, and each number of blocks
// around that which is done at a time.
func TestDecrypt(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{16, 24, 32} {
		for range 20 {
			key, iv := make([]byte, size), [aes.BlockSize]byte{}
			random.Read(key)
			random.Read(iv[:])
			d, err := New(key)
			if err != nil {
				t.Fatal(err)
			}
			block, err := aes.NewCipher(key)
			if err != nil {
				t.Fatal(err)
			}
			for n := range 35 {
				around := make([]byte, 1+n*aes.BlockSize+1) // not aligned
				random.Read(around)
				want := bytes.Clone(around)
				inside := want[1 : len(want)-1]
				cipher.NewCBCDecrypter(block, iv[:]).CryptBlocks(inside, inside)
				d.Decrypt(around[1:len(around)-1], iv)
				if !bytes.Equal(around, want) {
					t.Fatalf("a key of %d bytes, %d blocks: wrong", size, n)
				}
			}
		}
	}
	if _, err := New(make([]byte, 17)); err == nil {
		t.Error("a key of 17 bytes is accepted")
	}
}

func BenchmarkDecrypt(b *testing.B) {
	d, err := New(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	page := make([]byte, 16<<10)
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		d.Decrypt(page, [aes.BlockSize]byte{})
	}
}
