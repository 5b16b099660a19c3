// Package native writes the native content of a task, which is documents and tables (NAT-1), into
// the outputs of a batch, and finds it there again. It knows neither jobs nor HTTP.
//
//	             decide        sum, count
//	documents --> Decider --> measured --> loose      (ehi.PackageFiles: links, packs and an index)
//	tables    --> Decider --> measured --> archives   (ehi.PackageZIP: ZIP archives)
//
// In both forms a list has one EHIDocumentReference for each file that a client can download.
// Nothing but the entry that is being written is in memory, and the list of one archive.
package native
