package recipes

import (
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// fill gives a server a database shop with some 4,000 orders, some of which are
// in a table without transactions.
func fill(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE shop",
		"CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, note LONGTEXT) ENGINE=InnoDB",
		"CREATE TABLE shop.old_orders (id INT PRIMARY KEY, note LONGTEXT) ENGINE=MyISAM",
		"INSERT INTO shop.orders (note) VALUES (REPEAT('order ', 200))")
	for range 12 {
		s.Exec(t, "INSERT INTO shop.orders (note) SELECT CONCAT(REPEAT(MD5(id), 20)) FROM shop.orders")
	}
	s.Exec(t, "INSERT INTO shop.old_orders SELECT id, note FROM shop.orders WHERE id < 100")
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
