from hub_server import hub as hub  # the fixture: a stand-in for the Hub, and an empty HF_HOME
