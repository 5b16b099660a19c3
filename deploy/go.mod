module ehi-server/deploy

go 1.26
