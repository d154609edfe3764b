-- TPC-H tables (specification, clause 1.4) with a physical design for Redshift.
--
-- Small tables that almost every query joins are copied to every node (DISTSTYLE ALL).
-- orders and lineitem share the order key, part and partsupp share the part key, so those two
-- joins need no motion. orders and lineitem are sorted by the date that the queries restrict.
-- Encodings are chosen by the server (AUTO) except where the domain is fixed by the
-- specification: a handful of values (BYTEDICT), or keys that must stay cheap to join (AZ64).

CREATE TABLE region (
  r_regionkey BIGINT       NOT NULL,
  r_name      CHAR(25)     NOT NULL,
  r_comment   VARCHAR(152) NOT NULL
) DISTSTYLE ALL SORTKEY (r_regionkey);

CREATE TABLE nation (
  n_nationkey BIGINT       NOT NULL,
  n_name      CHAR(25)     NOT NULL,
  n_regionkey BIGINT       NOT NULL,
  n_comment   VARCHAR(152) NOT NULL
) DISTSTYLE ALL SORTKEY (n_nationkey);

CREATE TABLE supplier (
  s_suppkey   BIGINT        NOT NULL,
  s_name      CHAR(25)      NOT NULL,
  s_address   VARCHAR(40)   NOT NULL,
  s_nationkey BIGINT        NOT NULL,
  s_phone     CHAR(15)      NOT NULL,
  s_acctbal   DECIMAL(15,2) NOT NULL,
  s_comment   VARCHAR(101)  NOT NULL
) DISTSTYLE ALL SORTKEY (s_suppkey);

CREATE TABLE customer (
  c_custkey    BIGINT        NOT NULL,
  c_name       VARCHAR(25)   NOT NULL,
  c_address    VARCHAR(40)   NOT NULL,
  c_nationkey  BIGINT        NOT NULL,
  c_phone      CHAR(15)      NOT NULL,
  c_acctbal    DECIMAL(15,2) NOT NULL,
  c_mktsegment CHAR(10)      NOT NULL ENCODE BYTEDICT,
  c_comment    VARCHAR(117)  NOT NULL
) DISTKEY (c_custkey) SORTKEY (c_custkey);

CREATE TABLE part (
  p_partkey     BIGINT        NOT NULL,
  p_name        VARCHAR(55)   NOT NULL,
  p_mfgr        CHAR(25)      NOT NULL ENCODE BYTEDICT,
  p_brand       CHAR(10)      NOT NULL ENCODE BYTEDICT,
  p_type        VARCHAR(25)   NOT NULL ENCODE BYTEDICT,
  p_size        INTEGER       NOT NULL ENCODE AZ64,
  p_container   CHAR(10)      NOT NULL ENCODE BYTEDICT,
  p_retailprice DECIMAL(15,2) NOT NULL,
  p_comment     VARCHAR(23)   NOT NULL
) DISTKEY (p_partkey) SORTKEY (p_partkey);

CREATE TABLE partsupp (
  ps_partkey    BIGINT        NOT NULL,
  ps_suppkey    BIGINT        NOT NULL,
  ps_availqty   INTEGER       NOT NULL,
  ps_supplycost DECIMAL(15,2) NOT NULL,
  ps_comment    VARCHAR(199)  NOT NULL
) DISTKEY (ps_partkey) SORTKEY (ps_partkey);

CREATE TABLE orders (
  o_orderkey      BIGINT        NOT NULL ENCODE AZ64,
  o_custkey       BIGINT        NOT NULL ENCODE AZ64,
  o_orderstatus   CHAR(1)       NOT NULL ENCODE BYTEDICT,
  o_totalprice    DECIMAL(15,2) NOT NULL,
  o_orderdate     DATE          NOT NULL,
  o_orderpriority CHAR(15)      NOT NULL ENCODE BYTEDICT,
  o_clerk         CHAR(15)      NOT NULL,
  o_shippriority  INTEGER       NOT NULL,
  o_comment       VARCHAR(79)   NOT NULL
) DISTKEY (o_orderkey) SORTKEY (o_orderdate);

CREATE TABLE lineitem (
  l_orderkey      BIGINT        NOT NULL ENCODE AZ64,
  l_partkey       BIGINT        NOT NULL ENCODE AZ64,
  l_suppkey       BIGINT        NOT NULL ENCODE AZ64,
  l_linenumber    INTEGER       NOT NULL,
  l_quantity      DECIMAL(15,2) NOT NULL,
  l_extendedprice DECIMAL(15,2) NOT NULL,
  l_discount      DECIMAL(15,2) NOT NULL,
  l_tax           DECIMAL(15,2) NOT NULL,
  l_returnflag    CHAR(1)       NOT NULL ENCODE BYTEDICT,
  l_linestatus    CHAR(1)       NOT NULL ENCODE BYTEDICT,
  l_shipdate      DATE          NOT NULL,
  l_commitdate    DATE          NOT NULL,
  l_receiptdate   DATE          NOT NULL,
  l_shipinstruct  CHAR(25)      NOT NULL ENCODE BYTEDICT,
  l_shipmode      CHAR(10)      NOT NULL ENCODE BYTEDICT,
  l_comment       VARCHAR(44)   NOT NULL
) DISTKEY (l_orderkey) SORTKEY (l_shipdate, l_orderkey);
