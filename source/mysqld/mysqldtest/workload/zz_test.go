package workload
import ("testing";"hb/source/mysqld/mysqldtest")
func TestZZ(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"loose-innodb-file-format=Barracuda"}})
		l, err := Prepare(t.Context(), s.DB(), Options{DDLRate: 20, Seed: seed(t)})
		if err != nil { t.Fatal(err) }
		run(t, l, runFor())
		if err := Check(t.Context(), s.DB()); err != nil { t.Error(err) }
	})
}
