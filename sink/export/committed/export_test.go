package committed

var IsDictionary = isDictionary
