//go:build amd64 || arm64

package cbc

import (
	"crypto/aes"
	"encoding/binary"
	"math/bits"
)

// maxRounds is that of AES with a key of 32 bytes.
const maxRounds = 14

// schedule has the keys of all rounds, in the order in which decryption needs them: the
// equivalent inverse cipher of FIPS 197, section 5.3.5.
type schedule struct {
	rounds int // 0: the processor has no instructions for AES
	keys   [maxRounds + 1][aes.BlockSize]byte
}

// newSchedule expands a key (FIPS 197, section 5.2).
func newSchedule(key []byte) schedule {
	var s schedule
	if !hasAES() {
		return s
	}
	words := len(key) / 4
	s.rounds = words + 6
	expanded := make([]uint32, 4*(s.rounds+1))
	for i := range words {
		expanded[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	constant := uint32(1)
	for i := words; i < len(expanded); i++ {
		t := expanded[i-1]
		switch {
		case i%words == 0:
			t = bits.RotateLeft32(subWord(t), -8) ^ constant
			constant = constant<<1 ^ constant>>7*0x11b // times x in GF(2^8)
		case words > 6 && i%words == 4:
			t = subWord(t)
		}
		expanded[i] = expanded[i-words] ^ t
	}
	for r := range s.rounds + 1 {
		k := &s.keys[s.rounds-r]
		for i := range 4 {
			binary.LittleEndian.PutUint32(k[4*i:], expanded[4*r+i])
		}
		if r > 0 && r < s.rounds {
			inverseMix(k)
		}
	}
	return s
}

func (s *schedule) decrypt(data []byte, iv *[aes.BlockSize]byte) bool {
	if s.rounds == 0 {
		return false
	}
	decryptBlocks(&s.keys[0], s.rounds, &data[0], len(data)/aes.BlockSize, iv)
	return true
}

// subWord replaces the bytes of w by AES's S-box.
func subWord(w uint32) uint32

// inverseMix does AES's InvMixColumns to a round key.
//
//go:noescape
func inverseMix(key *[aes.BlockSize]byte)

// decryptBlocks decrypts blocks in place, of which there is at least one.
//
//go:noescape
func decryptBlocks(keys *[aes.BlockSize]byte, rounds int, data *byte, blocks int, iv *[aes.BlockSize]byte)
