package keyring

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxMySQLKeyring bounds a keyring file. A key takes about 200 bytes, and servers keep all
// keys that they ever had.
const maxMySQLKeyring = 16 << 20

// ReadMySQLKeyring adds the master keys of a keyring file of MySQL: of
// component_keyring_file (8.0.24 and later) or of the plugin keyring_file (5.7 and 8.0).
func (k *Keys) ReadMySQLKeyring(name string) error {
	if err := k.readMySQLKeyring(name); err != nil {
		return err
	}
	k.AddSource("the keyring " + name)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keyrings = append(k.keyrings, name)
	return nil
}

func (k *Keys) readMySQLKeyring(name string) error {
	content, err := readBounded(name, maxMySQLKeyring)
	if err != nil {
		return fmt.Errorf("reading the keyring: %w", err)
	}
	if len(content) == 0 {
		return nil // component_keyring_file makes an empty file, and writes it with its first key
	}
	parse := parseComponentFile
	if bytes.HasPrefix(content, []byte(pluginMagic)) {
		parse = parsePluginFile
	}
	keys, err := parse(content)
	if err != nil {
		return fmt.Errorf("keyring %s: %w", name, err)
	}
	for _, key := range keys {
		if key.User != "" || key.Type != masterType || len(key.Data) != masterSize {
			continue // of a user, or the number of the newest key of binary logs
		}
		if err := k.AddMaster(key.Name, key.Data); err != nil {
			return fmt.Errorf("keyring %s: %w", name, err)
		}
	}
	return nil
}

// masterSize is the size of a master key, in bytes, and masterType its type in a keyring.
const (
	masterSize = 32
	masterType = "AES"
)

// MySQLKey is one entry of a keyring file of MySQL.
type MySQLKey struct {
	Name, Type string // such as "INNODBKey-<uuid>-1", "AES"
	User       string // its owner; "" the server itself
	Data       Secret
}

// componentFile is the JSON of component_keyring_file (components/keyrings/common of
// MySQL 9.7.2, json_data). What hb does not know in it is kept from nobody: the server
// refuses another version.
type componentFile struct {
	Version  string             `json:"version"`
	Elements []componentElement `json:"elements"`
}

type componentElement struct {
	User      string            `json:"user"`
	Name      string            `json:"data_id"`
	Type      string            `json:"data_type"`
	Data      string            `json:"data"`
	Extension []json.RawMessage `json:"extension"`
}

// componentVersion is the only version of the component's files.
const componentVersion = "1.0"

func parseComponentFile(content []byte) ([]MySQLKey, error) {
	var f componentFile
	if err := json.Unmarshal(content, &f); err != nil {
		return nil, errors.New("it is neither a file of component_keyring_file nor one of the plugin keyring_file")
	}
	if f.Version != componentVersion {
		return nil, fmt.Errorf("it is of version %.20q, and hb reads %q", f.Version, componentVersion)
	}
	var keys []MySQLKey
	for _, e := range f.Elements {
		data, err := parseHex([]byte(e.Data))
		if err != nil {
			return nil, fmt.Errorf("%.100q: %w", e.Name, err)
		}
		keys = append(keys, MySQLKey{Name: e.Name, Type: e.Type, User: e.User, Data: data})
	}
	return keys, nil
}

// MarshalComponent returns a file of component_keyring_file that holds the keys.
func MarshalComponent(keys []MySQLKey) ([]byte, error) {
	f := componentFile{Version: componentVersion, Elements: []componentElement{}}
	for _, k := range keys {
		f.Elements = append(f.Elements, componentElement{
			User: k.User, Name: k.Name, Type: k.Type, Data: strings.ToUpper(hex.EncodeToString(k.Data)), Extension: []json.RawMessage{},
		})
	}
	return json.Marshal(f)
}

// The file of the plugin keyring_file (plugin/keyring/buffered_file_io.cc and
// common/keyring_key.cc of MySQL 5.7 and 8.0):
//
//	"Keyring file version:1.0" or 2.0
//	records: five lengths (8 bytes each, little-endian): of the record, of name, type, user
//	         and key; then these four; zero bytes up to a multiple of 8
//	"EOF"
//	2.0: SHA-256 of the records
//
// The bytes of a key are XORed with a text that is the same everywhere.
const (
	pluginMagic  = "Keyring file version:"
	pluginEnd    = "EOF"
	pluginMask   = "*305=Ljt0*!@$Hnm(*-9-w;:"
	pluginHeader = 5 * 8
)

// Format is that of a keyring file of MySQL.
type Format string

// The formats. "" is Component.
const (
	Component Format = "component" // of component_keyring_file, 8.0.24 and later
	Plugin    Format = "plugin"    // of the plugin keyring_file, up to 8.3
)

// MarshalPlugin returns a file of the plugin keyring_file that holds the keys: of its
// version 1.0, which all its releases read.
func MarshalPlugin(keys []MySQLKey) []byte {
	out := []byte(pluginMagic + "1.0")
	for _, k := range keys {
		parts := []string{k.Name, k.Type, k.User, string(mask(k.Data))}
		size := pluginHeader
		for _, p := range parts {
			size += len(p)
		}
		padding := -size & 7
		out = binary.LittleEndian.AppendUint64(out, uint64(size+padding))
		for _, p := range parts {
			out = binary.LittleEndian.AppendUint64(out, uint64(len(p)))
		}
		for _, p := range parts {
			out = append(out, p...)
		}
		out = append(out, make([]byte, padding)...)
	}
	return append(out, pluginEnd...)
}

func parsePluginFile(content []byte) ([]MySQLKey, error) {
	head := len(pluginMagic) + len("1.0")
	if len(content) < head {
		return nil, errors.New("it is cut short")
	}
	version, body := string(content[len(pluginMagic):head]), content[head:]
	var sum []byte
	switch version {
	case "1.0":
	case "2.0":
		if len(body) < sha256.Size {
			return nil, errors.New("it is cut short")
		}
		body, sum = body[:len(body)-sha256.Size], body[len(body)-sha256.Size:]
	default:
		return nil, fmt.Errorf("it is of version %q, and hb reads 1.0 and 2.0", version)
	}
	records, ok := bytes.CutSuffix(body, []byte(pluginEnd))
	if !ok {
		return nil, errors.New("it is cut short")
	}
	if sum != nil {
		if want := sha256.Sum256(records); !bytes.Equal(sum, want[:]) {
			return nil, errors.New("it is damaged: its SHA-256 is wrong")
		}
	}
	var keys []MySQLKey
	for len(records) > 0 {
		key, size, err := parsePluginRecord(records)
		if err != nil {
			return nil, err
		}
		keys, records = append(keys, key), records[size:]
	}
	return keys, nil
}

// parsePluginRecord reads the first record, and returns its size.
func parsePluginRecord(b []byte) (key MySQLKey, size uint64, err error) {
	damaged := errors.New("it is damaged: lengths that cannot be")
	if len(b) < pluginHeader {
		return key, 0, damaged
	}
	size = binary.LittleEndian.Uint64(b)
	if size < pluginHeader || size > uint64(len(b)) || size%8 != 0 {
		return key, 0, damaged
	}
	var parts [4][]byte
	rest := b[pluginHeader:size]
	for i := range parts {
		n := binary.LittleEndian.Uint64(b[8*(i+1):])
		if n > uint64(len(rest)) {
			return key, 0, damaged
		}
		parts[i], rest = rest[:n], rest[n:]
	}
	if len(rest) >= 8 {
		return key, 0, damaged
	}
	key = MySQLKey{Name: string(parts[0]), Type: string(parts[1]), User: string(parts[2]), Data: mask(parts[3])}
	return key, size, nil
}

// mask hides the bytes of a key, or shows them.
func mask(data []byte) Secret {
	out := make(Secret, len(data))
	for i, c := range data {
		out[i] = c ^ pluginMask[i%len(pluginMask)]
	}
	return out
}

// refresh reads the keyring files again if a master key is not known: the server makes a
// new one when it is told to rotate, also during a backup.
func (k *Keys) refresh(name string) error {
	k.mu.Lock()
	_, ok := k.mysql[name]
	k.mu.Unlock()
	if ok {
		return nil
	}
	return k.readAgain()
}

// readAgain reads the keyring files again.
func (k *Keys) readAgain() error {
	k.mu.Lock()
	files := k.keyrings
	k.mu.Unlock()
	for _, f := range files {
		if err := k.readMySQLKeyring(f); err != nil {
			return err
		}
	}
	return nil
}

// Masters returns the names of the master keys of InnoDB, sorted.
func (k *Keys) Masters() (names []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for n := range k.mysql {
		if _, number := masterNumber(n); number > 0 {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// NewestMaster returns the master key of InnoDB with the highest number, of all servers;
// ok is false if the keyring has no such key. Those of 5.7.11 do not count: they are named by the number of
// the server, which encryption information of later servers has no room for.
func (k *Keys) NewestMaster() (name string, key Secret, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	newest := uint64(0)
	for n, s := range k.mysql {
		server, number := masterNumber(n)
		if len(server) != uuidSize {
			continue
		}
		if number > newest || number == newest && number > 0 && n > name {
			name, key, newest = n, s, number
		}
	}
	if name != "" {
		k.use(name)
	}
	return name, key, name != ""
}

// useNewest has Each call for the newest master key of InnoDB of each server: those of a copy
// of a server may begin to count again, while the keyring has all.
func (k *Keys) useNewest() {
	k.mu.Lock()
	defer k.mu.Unlock()
	newest, names := make(map[string]uint64), make(map[string]string)
	for n := range k.mysql {
		if server, number := masterNumber(n); number > newest[server] {
			newest[server], names[server] = number, n
		}
	}
	for _, n := range names {
		k.use(n)
	}
}

// masterNumber takes the name of a master key of InnoDB apart; 0: it is not one.
func masterNumber(name string) (server string, number uint64) {
	rest, ok := strings.CutPrefix(name, masterPrefix)
	at := strings.LastIndexByte(rest, '-')
	number, err := strconv.ParseUint(rest[at+1:], 10, 32)
	if !ok || at < 0 || err != nil {
		return "", 0
	}
	return rest[:at], number
}

// uuidSize is the length of a server's UUID, in bytes.
const uuidSize = 36

// masterPrefix begins the names of the master keys of InnoDB.
const masterPrefix = "INNODBKey-"

// NewMaster makes a master key of InnoDB, adds it, and returns its name: the first of a
// server that no other has the UUID of. Page 0 of a tablespace names the server whose
// master key it needs, and a server goes on counting from there (Encryption::
// decode_encryption_info in os0enc.cc of MySQL 9.7.2).
func (k *Keys) NewMaster() (name string, err error) {
	var id [16]byte
	key := make(Secret, masterSize)
	rand.Read(id[:]) // never fails
	rand.Read(key)
	id[6], id[8] = id[6]&0x0F|0x40, id[8]&0x3F|0x80 // RFC 9562: random
	name = fmt.Sprintf("%s%x-%x-%x-%x-%x-1", masterPrefix, id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	return name, k.AddMaster(name, key)
}

// Sources returns where the keys are from, for people.
func (k *Keys) Sources() []string {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.where)
}
