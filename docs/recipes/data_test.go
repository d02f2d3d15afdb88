package recipes

import (
	"crypto/rand"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// fill gives a server a database shop with some 4,000 orders, some of which are
// in a non-transactional table.
func fill(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE shop",
		"CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, note LONGTEXT) ENGINE=InnoDB",
		"CREATE TABLE shop.old_orders (id INT PRIMARY KEY, note LONGTEXT) ENGINE=MyISAM",
		"INSERT INTO shop.orders (note) VALUES (REPEAT('order ', 200))")
	for range 12 {
		s.Exec(t, "INSERT INTO shop.orders (note) SELECT REPEAT(SHA2(id, 256), 10) FROM shop.orders")
	}
	s.Exec(t, "INSERT INTO shop.old_orders SELECT id, note FROM shop.orders WHERE id < 100")
}

// fillRandom adds 24 MiB that cannot be compressed.
func fillRandom(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE TABLE shop.photos (id INT AUTO_INCREMENT PRIMARY KEY, photo LONGBLOB) ENGINE=InnoDB")
	photo := make([]byte, 1<<20)
	for range 24 {
		rand.Read(photo)
		if _, err := s.DB().ExecContext(t.Context(), "INSERT INTO shop.photos (photo) VALUES (?)", photo); err != nil {
			t.Fatal(err)
		}
	}
}

// checksums returns the checksums of all tables of a server.
func checksums(t *testing.T, s *mysqldtest.Server) map[string]string {
	t.Helper()
	sums, err := workload.Checksums(t.Context(), s.DB())
	if err != nil {
		t.Fatal(err)
	}
	if sums["`shop`.`orders`"] == "" {
		t.Fatalf("no checksum of shop.orders: %v", sums)
	}
	return sums
}

// sameTables compares all tables of two servers.
func sameTables(t *testing.T, a, b *mysqldtest.Server) {
	t.Helper()
	hasTables(t, b, checksums(t, a))
}

// hasTables compares all tables of a server with what checksums returned before.
func hasTables(t *testing.T, s *mysqldtest.Server, want map[string]string) {
	t.Helper()
	for _, d := range workload.Differences(want, checksums(t, s)) {
		t.Errorf("%s: %s", s.Root.Name, d)
	}
}

// restored starts a server on a directory of a host that was restored, and
// compares its tables with what checksums returned before.
func restored(t *testing.T, h *host, dir string, want map[string]string) {
	t.Helper()
	s := mysqldtest.StartOn(t, h.at, h.path(dir), mysqldtest.Options{})
	hasTables(t, s, want)
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}
