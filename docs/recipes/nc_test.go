package recipes

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
)

func init() { register("nc.md", testNC, mysqldtest.MySQL97) }

// ncPort is the port that the page names.
const ncPort = 4444

func testNC(t *testing.T, r *recipe, root *mysqldtest.Root) {
	mysqldtest.Program(t, "age-keygen")
	nc := mysqldtest.Program(t, "nc.openbsd")
	db, spare := newHost(t, "db", root), newHost(t, "spare", root)
	for _, h := range []*host{db, spare} {
		h.finds(spare)
		h.write("/usr/local/bin/nc", "#!/bin/sh\nexec "+nc+" \"$@\"\n")
	}
	server := db.serve(mysqldtest.Options{Binlog: true})
	fill(t, server)
	want := checksums(t, server)
	here, there := db.shell(), spare.shell()

	r.run(there, "On the receiving machine: create a key")
	db.write("/home/root/recipients.txt", spare.read("/home/root/recipients.txt"))
	received := r.start(there, "On the receiving machine: listen")
	awaitListener(t, spare)
	r.run(here, "On the database server: send")
	received()
	r.run(there, "On the receiving machine: start")
	hasTables(t, spare.db(), want)
	testNCFails(t, db, spare)
}

// testNCFails: what the table of the page says.
func testNCFails(t *testing.T, db, spare *host) {
	t.Helper()
	for i, test := range []struct {
		through string // what the archive goes through after nc
		sent    string // exit codes of hb backup and nc
		extract int
		happens func() error
	}{
		{"{ cat >arrived; { head -c 100000; head -c 1 >/dev/null; printf x; cat; } <arrived; }", "0 0", 7, nil},
		{"head -c -1000", "0 0", 6, nil},
		{"cat", "5 0", 6, db.kill},
	} {
		dir := fmt.Sprintf("/srv/%d", i)
		there := spare.shell()
		received := there.start(fmt.Sprintf("nc -l spare %d | %s | hb extract -i key.txt -C %s", ncPort, test.through, dir))
		awaitListener(t, spare)
		sending := db.shell()
		if test.happens != nil {
			sending.must("export HB_THROTTLE=16MiB")
		}
		sent := sending.start(fmt.Sprintf("hb backup --compress --encrypt-to-file recipients.txt | nc -N spare %d || { echo codes ${PIPESTATUS[*]}; exit 1; }; echo codes 0 0", ncPort))
		if test.happens != nil {
			spare.awaitFiles(dir)
			if err := test.happens(); err != nil {
				t.Fatal(err)
			}
		}
		if _, said := sent(); !strings.HasSuffix(said, "codes "+test.sent+"\n") {
			t.Errorf("through %s: sent with %s, want %s", test.through, said, test.sent)
		}
		if code, said := received(); code != test.extract {
			t.Errorf("through %s: received with exit code %d, want %d\n%s", test.through, code, test.extract, said)
		}
		there.fails(8, "", "hb apply "+dir)
	}
}

// awaitListener waits until nc listens on a host, without connecting to it.
func awaitListener(t *testing.T, h *host) {
	t.Helper()
	a := netip.MustParseAddr(h.address).As4()
	line := fmt.Sprintf(": %08X:%04X 00000000:0000 0A ", binary.LittleEndian.Uint32(a[:]), ncPort)
	await(t, "nc to listen", func() bool {
		listeners, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(listeners), line)
	})
}
