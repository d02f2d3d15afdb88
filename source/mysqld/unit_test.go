package mysqld
