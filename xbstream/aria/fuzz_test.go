package aria_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"testing"

	"hb/xbstream/aria"
)

// FuzzTable reads hostile index files, and blocks by what they say of them. The
// seeds are of a table of MariaDB 10.11.18.
func FuzzTable(f *testing.F) {
	mai, mad := captured(f, "table.MAI.gz"), captured(f, "table.MAD.gz")
	f.Add(mai, mad)
	f.Add(mai[:200], mad[:8192])
	f.Fuzz(func(t *testing.T, mai, mad []byte) {
		table, err := aria.ReadTable(bytes.NewReader(mai))
		if err != nil {
			return
		}
		for no := 0; (no+1)*table.BlockSize <= len(mai); no++ {
			_ = table.VerifyIndex(mai[no*table.BlockSize:][:table.BlockSize], int64(no))
		}
		for no := 0; (no+1)*table.BlockSize <= len(mad); no++ {
			_ = table.VerifyData(mad[no*table.BlockSize:][:table.BlockSize], int64(no))
		}
	})
}

func captured(f *testing.F, name string) []byte {
	f.Helper()
	file, err := os.Open("testdata/" + name)
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		f.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		f.Fatal(err)
	}
	return b
}
