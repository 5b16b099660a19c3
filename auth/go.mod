module ehi-server/auth

go 1.26

require ehi-server/shared v0.0.0

replace ehi-server/shared => ../shared
