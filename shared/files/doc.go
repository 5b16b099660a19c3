// Package files keeps the files of exports. It alone knows how they lie on a disk; everybody else
// holds an Extent (object, offset, length) that it gave out, or the name of an attachment that a
// job's record lists. It never follows a path from outside, never lists a directory to answer a
// client, and knows nothing of job states.
//
//	<root>/<shard>/<job>.<task>.<attempt>.seg           the small outputs of one attempt of one task, one behind the other
//	<root>/<shard>/<job>.<task>.<attempt>.<n>.ndjson    one large output (over Config.SpillBytes)
//	<root>/<shard>/<job>.a.<random>                     an attachment
//
// The 256 shards are made once, and a job has no folder of its own: making one costs a file system
// more than the files in it (measured: 0.6 to 0.7 of the exports a second), and its parent would
// have to be synced for every export.
//
// A batch's files are garbage until the task's record in JetStream names them (DESIGN section 3): a
// crash leaves files that the janitor finds by their attempt number.
package files
