package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Limits of the plugin file_key_management (parser.cc of MariaDB 10.11): of the key file,
// and of the secret that it may be encrypted with, in bytes.
const (
	maxKeyFile = 1 << 20
	maxSecret  = 256
)

// salted opens a key file that `openssl enc -aes-256-cbc -md sha1` encrypted.
var salted = []byte("Salted__")

// ReadKeyFile adds the keys of a file of the plugin file_key_management. If the file is
// encrypted, secretFile has the secret. The version of all of its keys is 1.
func (k *Keys) ReadKeyFile(name, secretFile string) error {
	content, err := readBounded(name, maxKeyFile)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(content, salted) {
		if secretFile == "" {
			return &MissingKeyError{Name: "the secret of the encrypted key file " + name}
		}
		secret, err := readBounded(secretFile, maxSecret+2)
		if err != nil {
			return err
		}
		// The plugin removes all of these at the end.
		if content, err = decryptKeyFile(content, bytes.TrimRight(secret, "\r\n")); err != nil {
			return &WrongKeyError{"the secret in " + secretFile, fmt.Sprintf("%s: %v", name, err)}
		}
	}
	if err := k.parseKeyFile(content); err != nil {
		return fmt.Errorf("key file %s: %w", name, err)
	}
	k.AddSource("the key file " + name)
	return nil
}

func readBounded(name string, most int64) (content []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if content, err = io.ReadAll(io.LimitReader(f, most+1)); err != nil {
		return nil, err
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes: it is not a file of keys", name, most)
	}
	return content, nil
}

// decryptKeyFile opens an encrypted key file: 8 bytes of magic, 8 of salt, then AES-256-CBC
// with PKCS#7 padding. Key and IV are OpenSSL's EVP_BytesToKey of secret and salt with
// one round of SHA-1.
func decryptKeyFile(content, secret []byte) ([]byte, error) {
	const head = 16
	body := content[min(head, len(content)):]
	if len(body) == 0 || len(body)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%d encrypted bytes are not a number of whole blocks: the file is damaged", len(body))
	}
	var material, last []byte
	for len(material) < 32+aes.BlockSize {
		h := sha1.New()
		h.Write(last)
		h.Write(secret)
		h.Write(content[8:head])
		last = h.Sum(nil)
		material = append(material, last...)
	}
	block, err := aes.NewCipher(material[:32])
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(body))
	cipher.NewCBCDecrypter(block, material[32:32+aes.BlockSize]).CryptBlocks(plain, body)
	n := int(plain[len(plain)-1])
	if n == 0 || n > aes.BlockSize || !bytes.Equal(plain[len(plain)-n:], bytes.Repeat([]byte{byte(n)}, n)) {
		return nil, errors.New("it does not decrypt the file")
	}
	return plain[:len(plain)-n], nil
}

// parseKeyFile reads lines of a number, ";" and hexadecimal digits; "#" begins a comment.
// The server wants a key 1.
func (k *Keys) parseKeyFile(content []byte) error {
	found := false
	number := 0
	for line := range bytes.Lines(content) {
		number++
		line, _, _ = bytes.Cut(line, []byte("#"))
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		id, digits, ok := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(id), 10, 32)
		if !ok || err != nil || n == 0 {
			return fmt.Errorf("line %d is not a number, a semicolon and a key", number)
		}
		key, err := parseHex(bytes.TrimSpace(digits))
		if err == nil {
			err = k.AddMariaDB(MariaDBKey{uint32(n), 1}, key)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		found = found || n == 1
	}
	if !found {
		return errors.New("there is no key 1")
	}
	return nil
}
