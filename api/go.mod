module ehi-server/api

go 1.26

require (
	ehi-server/auth v0.0.0
	ehi-server/exporter v0.0.0
	ehi-server/shared v0.0.0
)

replace ehi-server/shared => ../shared

replace ehi-server/auth => ../auth

replace ehi-server/exporter => ../exporter
