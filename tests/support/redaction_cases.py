"""Sentences as documents have them: with a value that must not leave between « and », or with none that is anybody's.

Values are published examples or pass their check digits by chance. `tests/unit/rag/test_redaction_cases.py` holds Blindgate to all
of them; `bench/redaction.py` asks Presidio's recognisers the same.
"""

from typing import Final

LEAKS: Final[dict[str, tuple[str, ...]]] = {
    "plain": (
        "card «4111111111111111», thanks",
        "paid with «5555 5555 5555 4444»",
        "IBAN «GB29 NWBK 6016 1331 9268 19»",
        "NHS number «943 476 5919»",
        "her SSN is «219-09-9999»",
        "write to «amy.jones+ward@example.org»",
        "phone «+44 20 7946 0958»",
        "call «(212) 555-0123»",
        "from host «192.168.1.254»",
        "NINO «AB 12 34 56 C»",
    ),
    "other digits, spaces and dashes": (
        "card «４１１１ １１１１ １１１１ １１１１»",  # noqa: RUF001
        "بطاقة «٤١١١١١١١١١١١١١١١»",
        "card «4111\u00a01111\u00a01111\u00a01111»",
        "card «4111\u20091111\u20091111\u20091111»",
        "card «4111–1111–1111–1111»",  # noqa: RUF001
        "card «4111·1111·1111·1111»",
        "card «4111/1111/1111/1111»",
        "card «4111.1111.1111.1111»",
        "IBAN «GB29\u00a0NWBK\u00a06016\u00a01331\u00a09268\u00a019»",
        "IBAN «DE89.3704.0044.0532.0130.00»",
        "NHS «943\u2009476\u20095919»",
        "SSN «219\u201109\u20119999»",
        "SSN «219.09.9999»",
        "tel «+44\u00a020\u00a07946\u00a00958»",
        "(«212\u2011555\u20110123»)",
        "mail «amy＠example.org»",  # noqa: RUF001
    ),
    "invisible characters": (
        "card «4111\u200b1111\u200b1111\u200b1111»",
        "card «4\u00ad111111\u00ad111111\u00ad111»",
        "IBAN «GB29NWBK\u206060161331\u206092681\u20609»",
        "NHS «943\u200b476\u200b5919»",
        "SSN «219\u200d-09-\u200d9999»",
        "mail «am\u200by@exam\u00adple.org»",
        "tel «+4420\u200b79460958»",
        "tel «(212)\u200b555\u200b0123»",
        "mail «amy\u2060@\u2060example.org»",
    ),
    "a line's end inside": (
        "card «4111 1111\n1111 1111»",
        "card «41111111\n11111111»",
        "card «4111-1111-\n1111-1111»",
        "card «4111 1111\r\n    1111 1111»",
        "card «4111 1111\u20281111 1111»",
        "card «4111 1111\f1111 1111»",
        "IBAN «GB29 NWBK 6016 1331\n9268 19»",
        "IBAN «GB29NWBK6016-\n1331926819»",
        "IBAN «DE8937040044\n0532013000»",
        "NHS «943476\n5919»",
        "NHS «943 476\n  5919»",
        "SSN «219-09-\n9999»",
        "SSN «219-0\n9-9999»",
        "mail «first.last@exam\nple.org»",
        "mail «first.last@example.\norg»",
        "mail «first.last@\nexample.org»",
        "mail «anna-\nmaria@example.org»",
        "mail «anna@hospi\u00ad\ntal.example.org»",
        "tel «+44 20 7946\n0958»",
        "tel «020\n7946 0958»",
        "see «212-555-\n0123»",
        "see «(212)\n555-0123»",
        "see «07700\n900123»",
        "PESEL «440514\n01359»",
        "CPF «529.982.\n247-25»",
        "codice fiscale «RCCMNL83\nS18D969H»",
        "NINO «AB12345\n6C»",
        "host «192.168.\n1.254»",
    ),
    "left over of a format": (
        "card «4111&nbsp;1111&nbsp;1111&nbsp;1111»",
        "card «4111&#160;1111&#xA0;1111&#160;1111»",
        "card «4111&ndash;1111&ndash;1111&ndash;1111»",
        "card «4111&shy;1111<wbr>1111&#8203;1111»",
        "card «&#52;111 1111 1111 111&#49;»",
        "card «4111 1111<br>1111 1111»",
        "card «4111\\-1111\\-1111\\-1111»",
        "IBAN «GB29&nbsp;NWBK&nbsp;6016&nbsp;1331&nbsp;9268&nbsp;19»",
        "NHS «943&amp;nbsp;476&amp;nbsp;5919»",
        "SSN «219&#8209;09&#8209;9999»",
        "tel «+44&nbsp;20&nbsp;7946&nbsp;0958»",
        "mail «anna\\_maria@example.org»",
        "mail «amy&#64;example.org»",
        "mail «amy&commat;example&period;org»",
        "https://example.org/?to=«amy%40example.com»&x=1",
    ),
    "touching other words": (
        "CARD«4111111111111111»EXP12/27",
        "IBAN«DE89370400440532013000»",
        "«DE89370400440532013000»EUR",
        "NHS:«9434765919»/M",
        "mail:«amy@example.orgPhone»",
        "<«amy@example.org»>",
        "«amy@example.org»-based",
        "«amy@example.org»42",
        "17,«4111111111111111»,«amy@example.org»,«219-09-9999»",
        '"«+44 20 7946 0958»","«GB29NWBK60161331926819»"',
        "tel:«+12125550123»;",
        "17,«+44 20 7946 0958»,«0049 30 901820»",
        "«4111 1111 1111 1111» 12/27 123",
    ),
    "spelt by people": (
        "IBAN «gb29 nwbk 6016 1331 9268 19»",
        "write to «amy (at) example (dot) org»",
        "write to «amy[at]example.org»",
        "write to «amy at example dot org»",
        'write to «"amy jones"@example.org»',
        "write to «amy@ example.org» please",
        "write to «jörg@müller.example»",
        "write to «amy@xn--mller-kva.example»",
        "write to «AMY@163.com»",
        "SSN «219 09 9999»",
        "social security no. «219099999»",
        "card «4111 111111 11111 1»",
        "amex «3782 822463 10005»",
    ),
    "telephones of several countries": (
        "«+49 (0)30 901820»",
        "«0049 30 901820»",
        "«030/1234567»",
        "«01 42 68 53 00»",
        "«01.42.68.53.00»",
        "«0142685300»",
        "«020 7946 0958»",
        "«02079460958»",
        "«07700 900123»",
        "«+1-212-555-0123 ext. 45»",
        "«(212) 555-0123 x45»",
        "«212 555 0123»",
        "«1-800-555-0199»",
        "«(11) 91234-5678»",
        "«138-1234-5678»",
        "«8 (495) 123-45-67»",
        "«0412 345 678»",
        "«03-1234-5678»",
        "«+91 98765 43210»",
        "mob. «98765 43210»",
        "Teléfono: «912 345 678»",
    ),
    "numbers of other registers": (
        "Steuer-ID «86 095 742 719»",
        "AHV «756.9217.0769.85»",
        "CPF «529.982.247-25»",
        "Aadhaar «2341 2341 2346»",
        "NIR «2 95 10 99 126 111 93»",
        "DNI «54362315K»",
        "NIE «X-2482300-W»",
        "codice fiscale «RCC MNL 83S18 D969H»",
        "BSN «111222333»",
        "SIN «123 456 782»",
        "NPI «1234567893»",
        "DEA «AB1234563»",
        "PESEL «44051401359»",
        "ITIN «900-70-0000»",
        "Medicare «1EG4-TE5-MK73»",
        "MBI: «1EG4TE5MK73»",
    ),
    "accounts": (
        "Sort code «20-00-00», account number «31926819»",
        "sort code: «200000» a/c «31926819»",
        "A/C No. «31926819» at Barclays",
        "ABA routing number «021000021», account no. «000123456789»",
        "Routing: «0110-0001-5» / Acct# «4840-123-456»",
        "Konto «532 0130 00», BLZ «370 400 44»",
        "Kontonr.: «0532013000»",
        "BSB «062-000», account number is «1234 5678»",
        "Account: «31926819»",
        "IBAN or account «31926819»",
        "rekeningnummer «41 71 64 300»",
        "Passport No. «925665416», Reisepass «C01234567»",
        "<td>Account No</td><td>«31926819»</td>",
        "Account number | «31926819» |",
        "sort code\n«20-00-00»",
    ),
    "names of fields": (
        "SSNs «219099999», NPIs: «1234567893»",
        "patient_ssn: «219099999», userSSN=«219099999»",
        '{"socialSecurityNumber": "«219099999»", "npi":"«1234567893»"}',
        '{"phone_number": "«2125550123»", "homePhone": "«2125550123»"}',
        'account_number=«31926819», "accountNumber": "«31926819»", sortCode: «200000», sort_code «40-47-84»',
        "bankAccount «31926819», routing_number: «021000021», passportNo «925665416», dea_number «AB1234563»",
    ),
}
"""By the way in which they are written. A letter or digit between the marks that is not taken out leaks."""

DAYS: Final[tuple[str, ...]] = (
    "seen «2024/03/05» and «5.3.24», «05-Mar-2024» and «Mar-05-2024»",
    "made «20240305», DOB «03051980»",
    "from «03/2024» to «2024-05», «2024年3月5日»",
    "«05 / 03 / 2024» and «05 . 03 . 2024»",
    "17,«05/03/2024»,«2024-03-05»,x",
    "on «5 March\n2024», «March\n5, 2024», «05.03.\n2024»",
    "«5&nbsp;June&nbsp;2024», «June 5–7, 2024», «5 Mar 24»",  # noqa: RUF001
    "scan_«2024-03-05»_1.csv",
    "in «05.03.2024-07.03.2024», «5/3/2024 - 7/3/2024», «05.03.-07.03.2024», «2024-03-05/2024-03-07»",
    "VISIT «05MAR2024», PID|1||«19800503»|«20240305101010»|«20240305T1010Z»|«202403051010+0100»",
    "from «5 to 7 March 2024», «5th and 7th March», «5. bis 7. März»",
    "seen 3/12 ago, of which 5 may help, «5 May», 1-0-1, 5/5, 120/80",
    "aged «93», «92» y.o., «92» ans, «101»-jarige",
)
"""Days, and ages over 89, where a policy wants them out."""

FIGURES: Final[tuple[str, ...]] = (
    "Metformin 500 mg 1-0-1, max. 2000 mg/d; warfarin 2.5 mg, INR 2.0-3.0",
    "BP 145/95 mmHg, HR 63, SpO2 98 %, temp 36.8, BMI 27.4 kg/m2",
    "Na 138, K 4.1, Cl 102, urea 5.2, creatinine 88, eGFR 74, HbA1c 48",
    "ICD-10 E11.9, I10, Z79.4, C50.911; SNOMED 44054006, LOINC 4548-4",
    "CPT 99213, HCPCS J1100, NDC 0002-8215-01, ATC C07AB02",
    "seen 2024-03-05, reviewed 05/03/2024 and 5.3.24, next in 6/52",
    "lot 4821-77-3310, batch AB12345, S/N 0012345678, REF 30-1234-567",
    "ISIN US0378331005, DE0007164600; WKN 716460; CUSIP 037833100; SEDOL 2046251",
    "BIC NWBKGB2L, LEI 5493001KJTIIGC8Y1R12",
    "EUR 1.234.567,89, $1,234,567.89, CHF 12'345.60, 3 456 789 kr",
    "revenue 2,745 2,561 2,338; 1 234 567 891 in 2019, 987 654 321 in 2018",
    "2019 2018 2017 2016",
    "Q1 1,204.5 1,198.3 (0.5%), Q2 1,310.0 1,275.4 2.7%",
    "ISBN 978-3-16-148410-0, ISBN 0306406152, ISSN 0317-8471, doi 10.1000/182",
    "order 100-2000-3000, invoice 2024-000123-17, PO 4500012345",
    "trial NCT01234567, EudraCT 2004-000242-20, PMID 12345678, PMC3531190",
    "version 1.2.3.4, section 4.2.1.3, python 3.11.7, package@1.2.rc1",
    "550e8400-e29b-41d4-a716-446655440000, sha 9f86d081884c7d65",
    "MAC 00:1a:2b:3c:4d:5e, 12:30:45, std::vector",
    "coordinates 51.5074, -0.1278; 40.7128 N 74.0060 W",
    "dose 10 mg at 08:00, 12:00, 20:00; 3 x 5 ml for 7 days, 14 tablets",
    "the sample at 20 dot points; @mention, x@y.z, a@b",
    "88-year-old, at 95 degrees, age 45, room 12, bed 3, ward 3B",
    "0.4111111111111111 and 3.14159265358979",
    "CD4 350 cells, VL 10000 copies, WBC 7.2, Hb 132, Plt 250, MCV 89",
    "rows 101 102 103 104 105 106 107 108 109 110",
    "loan 250000 over 360 months at 3.75, payment 1157.79, APR 3.921",
    "EAN 4006381333931, GTIN 00012345600012, UPC 036000291452",
    "isn't 5 % of 20 000 000 or 1 000 000 000?",
    "§ 164.514(b)(2)(i)(C), 45 CFR 46.101, Art. 9(2)(h), Directive 95/46",
    "it is 128 random bits. Both fields are set; at 61 years, no 93 and so on",
    "p = 0.00856221073911 0.0101, b = 0.00856221073911 52.376111405924718",
    "+60509263E157, 6045338514609393E244, 99585767E-22, 38289878783765e-23",
    "accounts 2019 2018, account 4,100,000, on account of 20 000, account 3",
    "the account has 250000 shares; accounts payable 123456 123789",
    "since 219099999, a single 123456782, TELEVISION 2125550123, discounts 12345678, SINCE 123456782",
    "brotlicffi>=1.2.0.0, lz4~=1.7.4.2, section-2.3.2.4",
)
"""Nothing in them is somebody's; what is taken out of one of them is a false alarm."""


def marked(case: str) -> tuple[str, list[tuple[int, int]]]:
    """A case without its marks, and where its values stand: from and to."""
    parts, values, length = [], [], 0
    for place, part in enumerate(case.replace("»", "«").split("«")):
        if place % 2:
            values.append((length, length + len(part)))
        parts.append(part)
        length += len(part)
    return "".join(parts), values


def left_over(text: str, values: list[tuple[int, int]], taken: list[tuple[int, int]]) -> str:
    """The letters and digits of a text's values that are outside of what was taken out."""
    gone = {place for start, end in taken for place in range(start, end)}
    return "".join(
        text[place]
        for start, end in values
        for place in range(start, end)
        if text[place].isalnum() and place not in gone
    )
