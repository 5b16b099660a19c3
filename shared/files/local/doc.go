// Package local keeps the files of exports on a disk.
//
//	<root>/<shard>/<job>.<task>.<attempt>.seg           the small outputs of an attempt of a task
//	<root>/<shard>/<job>.<task>.<attempt>.<n>.ndjson    one that is larger than Config.SpillBytes
//	<root>/<shard>/<job>.<task>.<attempt>.<n>.doc       a document, as a hard link where possible
//	<root>/<shard>/<job>.a.<random>                     an attachment
//	<root>/.<kind>, <root>/.<kind>/<name>               marks, see files.Marks
//
// The 256 shards are made once, and a job has no folder of its own: making one costs a file system
// more than the files in it (measured: 0.6 to 0.7 of the exports a second), and its parent would
// have to be synced for every export.
package local
