"""An embedded AWS for the demo, the tests and users' own trials.

| file            | what it is                                                                                |
|-----------------|-------------------------------------------------------------------------------------------|
| kinesis/        | a model of Kinesis: pure state (`model`, `shard`, ...), the API, a clock and a lock         |
| others.py       | DynamoDB, S3, CloudWatch and STS: moto's WSGI application, one request at a time          |
| application.py  | the ASGI application: which service a request is for, faults, the control endpoint        |
| signers.py      | counts which access key signed which requests                                             |
| server.py       | `Emulator`: HTTP/2 and HTTP/1.1 on one port, in a thread or in the foreground              |
| persist.py      | what survives a restart, with a directory                                                 |
| producer.py     | puts records and keeps its own list of what was acknowledged                              |
| kpl.py          | writes the aggregated records of the Kinesis Producer Library                             |

Nothing of it is needed to receive a stream, and nothing else of this package imports it.
"""
